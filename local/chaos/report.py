"""The report of `make chaos`: tables for the terminal, JSON, and Markdown for the documentation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from local.chaos.audit import Audit, total
from local.config import LocalConfig
from operations.terminal import printable


@dataclass(frozen=True)
class Sheet:
    """A table to print; the first value of each row is its name."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def for_terminal(self) -> Table:
        """As a rich table."""
        table = Table(title=self.title, title_justify="left", header_style="bold")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*(printable(_readable(value)) for value in row))
        return table

    def in_markdown(self) -> str:
        """As a paragraph and a table of Markdown."""
        lines = [self.columns, ["---", *("--:" for _ in self.columns[1:])], *self.rows]
        return f"{self.title}:\n\n" + "\n".join(f"| {' | '.join(map(_readable, line))} |" for line in lines) + "\n"


def show(
    config: LocalConfig,
    console: Console,
    audits: Mapping[str, Audit],
    disturbed: Mapping[str, int],
    failed_calls: Mapping[str, Mapping[str, int]],
    seconds: int,
) -> int:
    """Print the report and write it to ``chaos.json`` and ``chaos.md``; returns 0 only if every audit is right.

    Parameters
    ----------
    audits:
        The audits by flow.
    disturbed:
        The injected faults, and how often.
    failed_calls:
        Number of calls that failed on purpose, by service and kind.
    """
    sums = total(list(audits.values()))
    told = {
        "seconds": seconds,
        **{name: value for name, value in sums.as_dict().items() if name != "details"},
        "flows": {name: audit.as_dict() for name, audit in audits.items()},
        "disturbed": disturbed,
        "failed_calls": failed_calls,
    }
    (config.folder / "chaos.json").write_text(json.dumps(told, indent=2) + "\n")
    sheets = [
        Sheet("Injected faults", ("", "times"), list(disturbed.items())),
        _failed_calls(failed_calls),
        *(Sheet(f"Audit of {name}", ("", ""), list(audit.details.items())) for name, audit in audits.items()),
        _sums({**audits, "all": sums}, seconds),
    ]
    for sheet in sheets:
        console.print(sheet.for_terminal())
    (config.folder / "chaos.md").write_text("\n".join(sheet.in_markdown() for sheet in sheets))
    for finding in sums.findings[:20]:
        console.print(f"[red]✗[/] {printable(finding)}")
    print(sums.summary())
    return 0 if all(audit.is_right for audit in audits.values()) else 1


def _failed_calls(failed: Mapping[str, Mapping[str, int]]) -> Sheet:
    kinds = sorted({kind for counts in failed.values() for kind in counts})
    rows = [(name, *(counts.get(kind, 0) for kind in kinds)) for name, counts in failed.items()]
    return Sheet("Injected failures of the functions' calls", ("service", *kinds), rows)


def _sums(audits: Mapping[str, Audit], seconds: int) -> Sheet:
    rows = [(name, a.accepted, a.done, a.dead_lettered, a.lost, a.twice) for name, a in audits.items()]
    columns = ("flow", "accepted", "done", "dead letters with a reason", "lost", "twice")
    return Sheet(f"Outcome, after {seconds} s", columns, rows)


def _readable(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
