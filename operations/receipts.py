"""The receipt of an erasure: a JSON file that survives interruptions and names everything that was removed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from operations.deployed import DeployedStack
from operations.erase import Removal, Selection, Trace


class Receipt:
    """The receipt of one selection, over all runs until it is complete.

    Parameters
    ----------
    folder:
        Of the receipts. An unfinished one of the same selection is continued.
    lingers:
        What cannot be removed: what it is, until when it exists, and why.
    """

    def __init__(
        self, folder: Path, stack: DeployedStack, selection: Selection, lingers: Sequence[tuple[str, str, str]]
    ) -> None:
        name = sha256(f"{stack.account}/{stack.stack_name}/{selection}".encode()).hexdigest()[:12]
        self._about = {
            "stack": stack.stack_name,
            "account": stack.account,
            "region": stack.region,
            **asdict(selection),
            "lingers": [{"what": what, "until": until, "why": why} for what, until, why in lingers],
        }
        self._removed: dict[tuple[str, str, str | None], dict[str, Any]] = {}
        self._planned: dict[tuple[str, str, str | None], Trace] = {}
        self._unanswered: list[Trace] = []
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"erased-{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
        for path in sorted(folder.glob(f"erased-{name}-*.json")):
            content = json.loads(path.read_text())
            if not content["is_complete"]:
                self.path = path
                self._removed = {(e["where"], e["name"], e["version_id"]): e for e in content["removed"]}
                self._planned = {trace.identity: trace for trace in _traces(content["being_removed"])}
                self._unanswered = _traces(content["unanswered"])

    def resume(self, found: Iterable[Trace], kinds: Sequence[str]) -> list[Trace]:
        """Continue after an interruption, even by kill -9.

        Parameters
        ----------
        found:
            What is still there. What was about to be removed and is gone was removed.
        kinds:
            The kinds of traces whose removal the function answers.

        Returns
        -------
        list
            The removed traces of these kinds that the function had not answered yet.
        """
        there = {trace.identity for trace in found}
        # A message has no key, and is not among what was found: the end of the run tells.
        gone = [trace for identity, trace in self._planned.items() if trace.key and identity not in there]
        self._planned = {identity: trace for identity, trace in self._planned.items() if not trace.key}
        fresh = [trace for trace in gone if trace.identity not in self._removed]
        self._remember(fresh)
        self._unanswered += [trace for trace in fresh if trace.kind in kinds]
        return self._unanswered

    def note(self, traces: Sequence[Trace]) -> None:
        """Write down what is about to be removed."""
        self._planned |= {trace.identity: trace for trace in traces}
        self.write(Removal())

    def write(
        self,
        removal: Removal,
        *,
        unanswered: Sequence[Trace] | None = None,
        is_complete: bool = False,
        invalidation: str = "",
    ) -> Path:
        """Write all that is known by now, in place of what was written before.

        Parameters
        ----------
        unanswered:
            Removed uploads whose events the function has not answered; as before if None.
        """
        self._remember(removal.removed)
        for trace, _ in removal.kept:
            self._planned.pop(trace.identity, None)
        if is_complete:  # what an earlier run removed last, before it was killed
            self._remember(list(self._planned.values()))
        if unanswered is not None:
            self._unanswered = list(unanswered)
        content = {
            **self._about,
            "is_complete": is_complete,
            "removed": list(self._removed.values()),
            "not_removed": [asdict(trace) | {"reason": reason} for trace, reason in removal.kept],
            "being_removed": [asdict(trace) for trace in self._planned.values()],
            "unanswered": [asdict(trace) for trace in self._unanswered],
            "cloudfront_invalidation": invalidation,
        }
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        draft.replace(self.path)
        return self.path

    def _remember(self, removed: Iterable[Trace]) -> None:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        for trace in removed:
            self._planned.pop(trace.identity, None)
            self._removed.setdefault(trace.identity, asdict(trace) | {"at": at})


def _traces(entries: Iterable[dict[str, Any]]) -> list[Trace]:
    return [Trace(**entry) for entry in entries]
