"""The content of a message, for every function."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from darkroom.errors import PermanentFault


class Task(Protocol):
    """One task of a message."""

    @property
    def task_id(self) -> str:
        """Return the id, the same for every delivery; it identifies dead letters and log lines."""

    @property
    def body(self) -> str:
        """Return the body of a dead letter: the original message."""


@dataclass(frozen=True)
class Unreadable:
    """A message, or one record of it, that is not a task, and the reason."""

    task_id: str
    body: str
    fault: PermanentFault


def unreadable_task_id(body: str) -> str:
    """Return the task id of a message that has none of the accepted shapes."""
    return hash_id("body", body)


def is_text(value: str) -> bool:
    """Whether UTF-8 can say it: JSON can hold half of a character, a lone surrogate."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def hash_id(kind: str, *parts: str) -> str:
    """Return an id that is the same for the same parts: ``kind``, a hyphen and 40 hexadecimal digits."""
    digest = sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{kind}-{digest[:40]}"
