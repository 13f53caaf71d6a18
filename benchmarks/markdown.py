"""Lay out a generated page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from itertools import groupby

_WIDTH = 118


def wrapped(lines: Iterable[str]) -> str:
    """Join the lines of a Markdown page; fill its paragraphs, but not tables, headings and links."""
    done: list[str] = []
    for is_prose, some in groupby(lines, _is_prose):
        if is_prose:
            done += textwrap.wrap(" ".join(some), _WIDTH, break_long_words=False, break_on_hyphens=False)
        else:
            done += some
    return "\n".join(done).rstrip() + "\n"


def _is_prose(line: str) -> bool:
    return bool(line) and not line.startswith(("|", "#", "!", "<", " ", "-"))
