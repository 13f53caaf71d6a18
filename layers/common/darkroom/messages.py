"""What a message holds, for whichever function takes it."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from darkroom.errors import PermanentFault


class Task(Protocol):
    """One thing to do, as a message asks for it."""

    @property
    def task_id(self) -> str:
        """The same for every delivery; under it dead letters and log lines are found."""

    @property
    def body(self) -> str:
        """What a dead letter carries: the message as it came."""


@dataclass(frozen=True)
class Unreadable:
    """A message, or one record of it, that holds no task, and why."""

    task_id: str
    body: str
    fault: PermanentFault


def unreadable_task_id(body: str) -> str:
    """The task id that a message gets when it is none of the shapes we take."""
    return hash_id("body", body)


def is_text(value: str) -> bool:
    """Whether UTF-8 can say it: JSON can hold half of a character, a lone surrogate."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def hash_id(kind: str, *parts: str) -> str:
    """An id that is the same for the same parts: ``kind``, a hyphen and 40 hexadecimal digits."""
    digest = sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{kind}-{digest[:40]}"
