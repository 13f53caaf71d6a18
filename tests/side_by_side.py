"""`make test`: targets of the Makefile side by side, since some compute while others wait.

Says at the start what cannot run here, how far each target is, what a target that failed has said, and at the end what
has passed and what did not run. Exits with 1 if a target failed, and with --complete also if a test was skipped.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic, sleep

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from local.emulators import rabbitmq_install

_LOGS = Path(__file__).parents[1] / ".local" / "logs"
# What waits goes first: what computes takes what is left of the processors.
_WAITS = ("test-integration", "test-laptop")
_NICENESS = 10
_SECONDS_BETWEEN_LINES = 20  # where there is no terminal
_PERCENT = re.compile(r"\[ *(\d+)%\]")
_STEP = re.compile(r"^\[(\d+)/(\d+)\] (.*)$", re.MULTILINE)
_CLOSING_LINE = re.compile(r"^=+ (.*\d+ (?:passed|failed|error|skipped).*?) =+$", re.MULTILINE)
_SKIPPED = re.compile(r"^SKIPPED \[(\d+)\] \S+?: (.*)$", re.MULTILINE)
_PASSED = re.compile(r"^(\[gw\d+\] \[ *\d+%\] PASSED .*|\S+::.* PASSED +\[ *\d+%\])\n", re.MULTILINE)


@dataclass
class Target:
    """A target that runs. ``seconds`` is how long it took, once it is over."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]
    started: float = field(default_factory=monotonic)
    seconds: float | None = None
    _read_until: int = 0
    _so_far: tuple[int, str] = (0, "starts")
    _has_steps: bool = False

    @property
    def said(self) -> str:
        """Everything it has printed so far."""
        return self.log.read_text(errors="replace")

    @property
    def failed(self) -> bool:
        """Whether it is over and failed."""
        return self.process.poll() not in (None, 0)

    def is_over(self) -> bool:
        """Ask whether it is over, and note when it is."""
        if self.seconds is None and self.process.poll() is not None:
            self.seconds = monotonic() - self.started
        return self.seconds is not None

    def how_far(self) -> tuple[int, str]:
        """Percentage, and what it does now, as far as it says."""
        with self.log.open(errors="replace") as log:
            log.seek(self._read_until)
            news = log.read()
            self._read_until = log.tell()
        if steps := _STEP.findall(news):
            number, of, name = steps[-1]
            self._so_far = 100 * (int(number) - 1) // int(of), name
            self._has_steps = True
        elif not self._has_steps:
            if percents := _PERCENT.findall(news):
                self._so_far = int(percents[-1]), ""
            elif self._so_far[0] == 0 and news.strip():
                self._so_far = 0, news.splitlines()[-1][:60]
        return self._so_far


def main() -> int:
    """Run the targets; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.side_by_side", description=__doc__)
    parser.add_argument("--complete", action="store_true", help="fail if a test was skipped")
    parser.add_argument("targets", nargs="+")
    options = parser.parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    if rabbitmq_install.find() is None:
        console.print(f"[yellow]![/] Tests will be left out. {escape(rabbitmq_install.why_left_out())}", soft_wrap=True)
    started = monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        targets = [_start(name, stack) for name in options.targets]
        _follow(targets, console)
    return _sum_up(targets, console, monotonic() - started, complete=options.complete)


def _start(name: str, stack: ExitStack) -> Target:
    _LOGS.mkdir(parents=True, exist_ok=True)
    log = _LOGS / f"{name}.log"
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    environment["PYTEST_ADDOPTS"] = f"{environment.get('PYTEST_ADDOPTS', '')} --verbose --verbose --color=no"
    command = ["make", "--no-print-directory", name]
    if name not in _WAITS:
        command = ["nice", "-n", str(_NICENESS), *command]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 # our own targets
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            process_group=0,  # not a session of its own: Linux shares the processors evenly among those, despite `nice`
        )
    stack.callback(_end, process)
    return Target(name, log, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a target as Ctrl-C does, so that it stops what it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _follow(targets: Sequence[Target], console: Console) -> None:
    """Show how far each target is until all are over."""
    columns = (TextColumn("{task.description:17}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    ended: set[str] = set()
    say = partial(console.print, markup=False, soft_wrap=True)
    with Progress(*columns, TextColumn("{task.fields[doing]}"), console=console, transient=True) as progress:
        bars = {target.name: progress.add_task(target.name, total=100, doing="") for target in targets}
        next_line = monotonic()
        while len(ended) < len(targets):
            for target in targets:
                if target.name in ended:
                    continue
                if target.is_over():
                    ended.add(target.name)
                    progress.remove_task(bars[target.name])
                    mark = "[red]✗[/]" if target.failed else "[green]✓[/]"
                    console.print(f"{mark} {target.name}, {target.seconds:.0f} s: {escape(_result(target))}")
                else:
                    percent, doing = target.how_far()
                    progress.update(bars[target.name], completed=percent, doing=escape(doing))
            if not console.is_terminal and monotonic() >= next_line and len(ended) < len(targets):
                say(", ".join(_lines(targets)))
                next_line = monotonic() + _SECONDS_BETWEEN_LINES
            sleep(0.3)


def _lines(targets: Sequence[Target]) -> Iterator[str]:
    for target in targets:
        if target.seconds is None:
            percent, doing = target.how_far()
            yield f"{target.name} {percent} %{f' ({doing})' if doing else ''}"


def _result(target: Target) -> str:
    """The closing lines of its test runs."""
    return "; ".join(_CLOSING_LINE.findall(target.said)) or ("failed" if target.failed else "done")


def _sum_up(targets: Sequence[Target], console: Console, seconds: float, *, complete: bool) -> int:
    say = partial(console.print, markup=False, soft_wrap=True)
    failed = [target for target in targets if target.failed]
    for target in failed:
        console.rule(f"{target.name} failed and said")
        say(_PASSED.sub("", target.said))
        console.rule()
    skipped = [(int(count), reason) for target in targets for count, reason in _SKIPPED.findall(target.said)]
    for target in targets:
        say(f"{target.name}: {_result(target)}")
    for reason in dict.fromkeys(reason for _, reason in skipped):
        count = sum(count for count, why in skipped if why == reason)
        say(f"Did not run: {count} tests, because: {reason}")
    if failed:
        say(f"Failed after {seconds:.0f} s: {', '.join(target.name for target in failed)}")
    elif skipped and complete:
        say(f"Failed after {seconds:.0f} s: every test has to run here.")
    else:
        say(f"Passed in {seconds:.0f} s.")
    return 1 if failed or (skipped and complete) else 0


if __name__ == "__main__":
    sys.exit(main())
