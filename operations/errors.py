"""Errors that the person who runs a command can fix."""

from __future__ import annotations


class OperationsError(Exception):
    """Something the person at the terminal can fix; ``str()`` of it says what and how."""
