"""What a person who runs a command can mend."""

from __future__ import annotations


class OperationsError(Exception):
    """Something the person at the terminal can mend; ``str()`` of it says what and how."""
