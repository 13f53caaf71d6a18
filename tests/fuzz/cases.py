"""The outcomes of the cases of one block, and those that a person should look at."""

from __future__ import annotations

import signal
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType


@dataclass(frozen=True)
class Block:
    """Cases that one process tries, one after the other.

    Attributes
    ----------
    number:
        Of its first case. With ``kind`` and ``seed`` it decides every case.
    count:
        How many cases.
    """

    kind: str
    seed: int
    number: int
    count: int


@dataclass(frozen=True)
class Case:
    """A case that was kept, and why."""

    name: str
    reason: str
    content: bytes


@dataclass(frozen=True)
class Report:
    """The outcome of a block.

    Attributes
    ----------
    tried:
        How many cases there were.
    outcomes:
        How often each occurred; a case may have several, as a batch has several messages.
    findings:
        Cases that show a defect in Darkroom.
    curious:
        Cases that crashed a decoder. They become dead letters, as they should.
    """

    tried: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: tuple[Case, ...] = ()
    curious: tuple[Case, ...] = ()


class Hangs(BaseException):
    """A case exceeds the time limit. It is not an Exception, so no ``except Exception`` catches it."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise Hangs in the main thread if the block inside takes longer."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Hangs(f"It takes more than {seconds} s.")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def told(error: BaseException) -> str:
    """An error's traceback, which ends with what went wrong; without the notes that hypothesis adds to it."""
    error.__notes__ = []
    return "".join(traceback.format_exception(error)).strip()
