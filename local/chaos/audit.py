"""The sums that must be right after any fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from local.outcomes import DeadLetter


@dataclass(frozen=True)
class Audit:
    """What was accepted, and its outcomes.

    Attributes
    ----------
    dead_lettered:
        Number moved to the dead-letter queue with the expected reason.
    faulty:
        Number of items that can only be moved to the dead-letter queue.
    twice:
        Number of items with an effect more than once.
    details:
        Further figures, as displayed.
    findings:
        What is wrong, one sentence each.
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
        """Accepted, but neither done nor moved to the dead-letter queue."""
        return self.accepted - self.done - self.dead_lettered

    @property
    def is_right(self) -> bool:
        """Whether everything accepted was done once, or moved to the dead-letter queue if it was faulty."""
        return self.dead_lettered == self.faulty and not (self.lost or self.twice or self.findings)

    def summary(self) -> str:
        """The last line of every audit."""
        return (
            f"accepted {self.accepted}, done {self.done}, dead-lettered {self.dead_lettered}, "
            f"lost {self.lost}, twice {self.twice}"
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"lost": self.lost, "right": self.is_right}


def total(audits: Sequence[Audit]) -> Audit:
    """Add up audits of different things. For details with the same name, the last one is kept."""
    return Audit(
        accepted=sum(audit.accepted for audit in audits),
        done=sum(audit.done for audit in audits),
        dead_lettered=sum(audit.dead_lettered for audit in audits),
        faulty=sum(audit.faulty for audit in audits),
        twice=sum(audit.twice for audit in audits),
        details={name: value for audit in audits for name, value in audit.details.items()},
        findings=[finding for audit in audits for finding in audit.findings],
    )


def dead_lettered_rightly(expected: Mapping[str, str], letters: Sequence[DeadLetter]) -> tuple[set[str], list[str]]:
    """Compare the dead letters with the expected ones.

    Parameters
    ----------
    expected:
        Expected error code by task id; empty for a task that must not become a dead letter.

    Returns
    -------
    tuple
        The ids of the expected dead letters, and findings.
    """
    rightly: set[str] = set()
    findings = []
    for letter in letters:
        if letter.task_id not in expected:
            continue  # not ours
        code = expected[letter.task_id]
        if not letter.error_code or not letter.reason:
            findings.append(f"{letter.task_id} was moved to the dead-letter queue without a reason.")
        elif letter.error_code != code:
            wanted = f"not as {code}" if code else "but could be done"
            findings.append(
                f"{letter.task_id} was moved to the dead-letter queue as {letter.error_code}, {wanted}: {letter.reason}"
            )
        else:
            rightly.add(letter.task_id)
    return rightly, findings
