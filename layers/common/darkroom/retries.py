"""When to retry."""

from __future__ import annotations

import random


def backoff(attempt: int, *, base: float, longest: float) -> float:
    """Return the seconds to wait before the next attempt: exponential, full jitter, at least half of ``base``.

    Parameters
    ----------
    attempt:
        The number of attempts so far, from 1.
    base:
        Upper bound of the first wait in seconds; it doubles with every attempt.
    longest:
        Upper bound of any wait in seconds.

    Notes
    -----
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    # An exponent over 30 exceeds any bound and would only make a huge number.
    bound = min(longest, base * 2 ** min(attempt - 1, 30))
    return random.uniform(min(base / 2, bound), bound)  # noqa: S311 # spreads load, protects no secret
