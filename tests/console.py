"""A console whose output a test reads."""

from __future__ import annotations

import io

from rich.console import Console


def recording(width: int) -> Console:
    """A console of this width that keeps what is printed."""
    return Console(file=io.StringIO(), width=width, highlight=False)


def said(console: Console) -> str:
    """What was printed so far."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
