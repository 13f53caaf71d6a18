"""Lay out a generated page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

_WIDTH = 118


def wrapped(lines: Iterable[str]) -> str:
    """Join the lines of a Markdown page; wrap prose, but not tables, headings and links."""
    done: list[str] = []
    for line in lines:
        is_prose = line and not line.startswith(("|", "#", "!", "<", " ", "-"))
        done += textwrap.wrap(line, _WIDTH, break_long_words=False, break_on_hyphens=False) if is_prose else [line]
    return "\n".join(done).rstrip() + "\n"
