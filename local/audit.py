"""The sums that have to be right after any disturbance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Audit:
    """What was accepted and what became of it.

    Attributes
    ----------
    faulty:
        How many could only be set aside.
    details:
        Further figures, as people read them.
    findings:
        Whatever is not as it should be, one sentence each.
    """

    accepted: int
    done: int
    dead_lettered: int
    twice: int
    details: dict[str, Any]
    findings: list[str] = field(default_factory=list)
    faulty: int = 0

    @property
    def lost(self) -> int:
        """Accepted, but neither done nor set aside."""
        return self.accepted - self.done - self.dead_lettered

    @property
    def is_right(self) -> bool:
        """Whether everything accepted was done once, or set aside if it was faulty."""
        return self.dead_lettered == self.faulty and not (self.lost or self.twice or self.findings)

    def summary(self) -> str:
        """The last line of every audit."""
        return (
            f"accepted {self.accepted}, done {self.done}, dead-lettered {self.dead_lettered}, "
            f"lost {self.lost}, twice {self.twice}"
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "accepted": self.accepted,
            "done": self.done,
            "dead_lettered": self.dead_lettered,
            "lost": self.lost,
            "twice": self.twice,
            "right": self.is_right,
            "details": self.details,
            "findings": self.findings,
        }
