"""The time by which a function must answer."""

from __future__ import annotations

from dataclasses import dataclass
from time import time

from darkroom.errors import OutOfTime


@dataclass(frozen=True)
class Deadline:
    """Return the time by which the function must answer, in seconds since the epoch."""

    at: float

    def require(self, seconds: float, purpose: str) -> None:
        """Raise OutOfTime if less than ``seconds`` are left."""
        left = self.at - time()
        if left < seconds:
            raise OutOfTime(f"{max(left, 0):.0f} s are left, {seconds:.0f} s are needed to {purpose}.")
