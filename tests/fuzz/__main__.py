"""`make fuzz`: a hundred thousand messages and files of every kind, damaged in every way; none may do harm.

Exits with 1 if one has. The input is then in .local/fuzz, with the smallest files that crashed a decoder, which
is no harm: each of those has a process of its own.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from random import SystemRandom
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.fuzz.blocks import try_block
from tests.fuzz.cases import Block, Case, Report

_KEPT = Path(__file__).resolve().parents[2] / ".local" / "fuzz"
#: Of a hundred cases, how many are of which kind.
_SHARES = {
    "images": 40,
    "image-messages": 22,
    "orders": 14,
    "rabbitmq-events": 14,
    "direct-invocations": 5,
    "render-answers": 5,
}
#: Cases of a block: those of images take a second each.
_BLOCK, _IMAGES = 500, 50
#: Between two lines of progress, where the output is a file.
_SECONDS = 30
# What Lambda tells the functions; the logger reads it when it is imported.
_ENVIRONMENT = {
    "POWERTOOLS_SERVICE_NAME": "fuzz",
    "POWERTOOLS_METRICS_NAMESPACE": "Darkroom",
    "POWERTOOLS_TRACE_DISABLED": "true",
}


def main() -> int:
    """Try every case and print the outcomes; returns the exit code."""
    options = _options()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    seed = SystemRandom().randrange(10**6) if options.seed is None else options.seed
    os.environ |= _ENVIRONMENT
    blocks = list(_blocks(options, seed))
    console.print(f"Seed {seed}: {sum(block.count for block in blocks):,} cases.")
    reports: dict[str, list[Report]] = defaultdict(list)
    with _progress(console) as progress, _pool(options.kinds) as pool:
        tasks = {kind: progress.add_task(kind, total=0) for kind in dict.fromkeys(block.kind for block in blocks)}
        for block in blocks:
            progress.update(tasks[block.kind], total=(progress.tasks[tasks[block.kind]].total or 0) + block.count)
        running = {pool.submit(try_block, block): block for block in blocks}
        shown = monotonic()
        for future in as_completed(running):
            block = running[future]
            reports[block.kind].append(future.result())
            progress.advance(tasks[block.kind], block.count)
            if not console.is_terminal and monotonic() - shown > _SECONDS:
                shown = monotonic()
                console.print(
                    ", ".join(f"{t.description} {t.completed:,.0f} of {t.total:,.0f}" for t in progress.tasks)
                )
    _print(console, reports)
    findings = [case for of_kind in reports.values() for report in of_kind for case in report.findings]
    curious = [case for of_kind in reports.values() for report in of_kind for case in report.curious]
    for case in _smallest(curious):
        console.print(f"{case.name}: {case.reason} Kept as {_keep(case, seed)}", markup=False)
    for case in _smallest(findings):
        console.print(f"\nFOUND {_last_line(case)}\nKept as {_keep(case, seed)}", markup=False, soft_wrap=True)
        console.print(f"Again: make fuzz SEED={seed} AGAIN={case.name}", markup=False)
    return 1 if findings else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="how many (default 100000)")
    parser.add_argument("--seed", type=int, help="that decides every case (default: another every time)")
    parser.add_argument("--kinds", nargs="+", choices=_SHARES, default=list(_SHARES), help="only these")
    parser.add_argument("--again", metavar="KIND/NUMBER", help="only what was found under this name")
    return parser.parse_args()


def _blocks(options: argparse.Namespace, seed: int) -> Iterator[Block]:
    if options.again:
        kind, _, number = options.again.partition("/")
        yield Block(kind, seed, int(number), 1 if kind == "images" else _BLOCK)
        return
    all_shares = sum(_SHARES[kind] for kind in options.kinds)
    for kind in options.kinds:
        count = -(-options.cases * _SHARES[kind] // all_shares)
        size = _IMAGES if kind == "images" else _BLOCK
        yield from (Block(kind, seed, first, min(size, count - first)) for first in range(0, count, size))


def _pool(kinds: Collection[str]) -> ProcessPoolExecutor:
    """A new process for each block of files, so that the kernel's account of its children is of that block alone."""
    blocks = 1 if "images" in kinds else None
    return ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"), max_tasks_per_child=blocks)


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description:20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


def _print(console: Console, reports: dict[str, list[Report]]) -> None:
    table = Table("kind", "outcome", "how often", title_justify="left")
    table.columns[2].justify = "right"
    for kind, of_kind in reports.items():
        outcomes = sum((report.outcomes for report in of_kind), Counter[str]())
        table.add_row(kind, "cases tried", f"{sum(report.tried for report in of_kind):,}", style="bold")
        for outcome, count in outcomes.most_common():
            table.add_row("", outcome, f"{count:,}")
    console.print(table)


def _smallest(cases: list[Case]) -> list[Case]:
    """The smallest case for each reason."""
    by_size = sorted(cases, key=lambda case: len(case.content), reverse=True)
    return list({_last_line(case): case for case in by_size}.values())


def _last_line(case: Case) -> str:
    return case.reason.splitlines()[-1][:300]


def _keep(case: Case, seed: int) -> Path:
    _KEPT.mkdir(parents=True, exist_ok=True)
    path = _KEPT / f"{case.name.replace('/', '-')}-of-{seed}"
    path.write_bytes(case.content)
    path.with_suffix(".txt").write_text(case.reason)
    return path.relative_to(Path.cwd())


if __name__ == "__main__":
    sys.exit(main())
