"""Show text of others in a person's terminal."""

from __future__ import annotations

from rich.markup import escape as _escape


def printable(text: str) -> str:
    """Return untrusted text for rich to print, without markup and control characters.

    File names, messages and reasons may hold escape sequences, which move the cursor, set the clipboard or hide what
    is shown. What is not printable, line breaks apart, becomes a replacement character.
    """
    return _escape("".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text))
