"""When to try again."""

from __future__ import annotations

import random


def backoff(attempt: int, *, base: float, longest: float) -> float:
    """Seconds to wait before the next attempt: exponential, with full jitter, never less than half of ``base``.

    Parameters
    ----------
    attempt:
        How many attempts were made, from 1.
    base:
        Upper bound of the first wait in seconds; it doubles with every attempt.
    longest:
        Upper bound of any wait in seconds.

    Notes
    -----
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    # An exponent over 30 is beyond any bound and would only make a huge number.
    bound = min(longest, base * 2 ** min(attempt - 1, 30))
    return random.uniform(min(base / 2, bound), bound)  # noqa: S311 # spreads load, guards no secret
