"""Show text of others in a person's terminal."""

from __future__ import annotations

import json

from rich.markup import escape as _escape


def printable(text: str) -> str:
    """Return untrusted text for rich to print, without markup and control characters.

    File names, messages and reasons may hold escape sequences, which move the cursor, set the clipboard or hide what
    is shown. What is not printable becomes a replacement character, and so do line breaks: a name with one could show a
    line of its own, such as a success.
    """
    return _escape("".join(letter if letter.isprintable() else "\ufffd" for letter in text))


def printable_json(text: str) -> str:
    """Return lines of JSON that mean the same: what is not printable in them becomes an escape sequence of JSON."""
    return "".join(letter if letter.isprintable() or letter == "\n" else json.dumps(letter)[1:-1] for letter in text)
