"""Errors that the user of a command can fix."""

from __future__ import annotations


class OperationsError(Exception):
    """An error that the user can fix; ``str()`` says what is wrong and how to fix it."""
