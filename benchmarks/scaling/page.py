"""docs/scaling.md, from the simulation: `make scaling`. The same seed gives the same page."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from rich.console import Console

from benchmarks.cost.function_seconds import Measured, load
from benchmarks.cost.prices import MB_PER_CPU
from benchmarks.markdown import wrapped
from benchmarks.scaling.flow_model import CALM_SECONDS, NOTIFICATION_SECONDS, WARM_SECONDS, Outcome
from benchmarks.scaling.limits import DAY, LIMITS, TEMPLATE
from benchmarks.scaling.scenarios import DEFAULTS, FAULTS, Scenario, batches_of, dollars_of, run

_ROOT = Path(__file__).resolve().parents[2]
_PAGE = _ROOT / "docs" / "scaling.md"
_THROUGHPUT = Path(__file__).parents[1] / "results" / "throughput.json"


Results: TypeAlias = Sequence[tuple[Scenario, Outcome]]


def page_of(results: Results, measured: Measured) -> str:
    """docs/scaling.md."""
    parts = (_settings(results, measured), _outcomes(results, measured), _bites(results), _accuracy(measured))
    return wrapped(line for part in parts for line in part)


def _settings(results: Results, measured: Measured) -> Iterator[str]:
    batches, most = batches_of(measured), DEFAULTS.most
    together = most * 10 / batches.seconds(10)
    yield "<!-- Made by `make scaling` from benchmarks/scaling/page.py. Do not edit. -->"
    yield "# Scaling"
    yield ""
    yield (
        "How the image flow behaves under loads that no laptop can make: a simulation with the limits that AWS"
        " publishes"
        " and the times measured here. An image of 4 MB and 12 megapixels takes"
        f" {batches.seconds(1):.2f} s alone with {MB_PER_CPU} MB, a batch of ten {batches.seconds(10):.1f} s; so"
        f" each concurrent function renders {10 / batches.seconds(10):.2f} images a second, and the {most} that the"
        f" template allows (`ProcessImageConcurrency`, the mapping's MaximumConcurrency) {together:.0f}:"
        f" {together * DAY / 1e6:.1f} million a day, if they arrive evenly."
    )
    yield ""
    yield "## What to set"
    yield ""
    yield (
        "For each load, the `ProcessImageConcurrency` at which four of five functions are busy in the busiest hour"
        " while images arrive one by one, and the time that 99 of 100 images then take from upload to published (for"
        " loads over a million a day: at noon). With fewer functions a load falls behind for hours. Unused concurrency"
        " costs nothing."
    )
    yield ""
    yield "| Load | Most uploads a second | ProcessImageConcurrency | Account quota | Prefixes | p99 |"
    yield "|---|---:|---:|---:|---:|---:|"
    for scenario, outcome in results:
        setting = scenario.recommended
        concurrency = f"{setting.maximum_concurrency}{', the default' if setting.most == DEFAULTS.most else ''}"
        if setting.provisioned:
            concurrency = f"none, but {setting.provisioned[0]} to {setting.provisioned[1]} provisioned pollers"
        yield (
            f"| {scenario.name} | {scenario.peak_rate:,.1f} | {concurrency} | {setting.account:,} |"
            f" {setting.prefixes} | {_time(outcome.p99)} |"
        )
    yield ""
    yield (
        "The account quota is the number of concurrent functions; AWS raises it on request. A prefix is the start"
        " of the"
        " keys of uploads: S3 splits a busy bucket along them, in half an hour to an hour, and an upload's"
        " renditions begin with"
        " the upload's key, so keys that all begin with today's date are one prefix. Above a MaximumConcurrency of"
        " 1,000 you need provisioned mode or several queues; both are changes of the template."
    )
    yield ""


def _outcomes(results: Results, measured: Measured) -> Iterator[str]:
    yield "## Results"
    yield ""
    yield (
        "Time from upload to published: S3's notification, the wait in the queue, and the batch."
        " A day has 1.75 times its mean rate at noon and a quarter of it at midnight."
    )
    yield ""
    yield "| Load | p50 | p90 | p99 | slowest | most waiting | at once | images per batch | dead letters | USD |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for scenario, outcome in results:
        latencies = " | ".join(_time(outcome.quantile(share)) for share in (0.5, 0.9, 0.99, 1))
        yield (
            f"| {_name(scenario)} | {latencies} | {outcome.peak_backlog:,} | {outcome.peak_concurrency:,.0f} |"
            f" {outcome.mean_batch:.1f} | {outcome.dead:,.0f} | {dollars_of(scenario, outcome, measured):,.2f} |"
        )
    yield ""
    yield (
        "*At once* is the most concurrent functions. *Dead letters* are messages that met a transient fault ten times:"
        f" {FAULTS.transient:.1%} of attempts at random, {FAULTS.crash:.3%} of batches lose their function, and every"
        " refusal by S3 or DynamoDB. *USD* is for all images of the day or burst, without the"
        " fixed cost of the stack ([cost.md](cost.md)); larger batches wait less and are cheaper."
    )
    yield ""


def _bites(results: Results) -> Iterator[str]:
    yield "## Where each limit bites"
    yield ""
    yield "How long each limit made images wait or refused them, in hours:minutes:seconds."
    yield ""
    yield "| Load | |"
    yield "|---|---|"
    for scenario, outcome in results:
        longest_first = sorted(outcome.bites.items(), key=lambda bite: -bite[1])
        bites = "; ".join(f"{name} {_clock(seconds)}" for name, seconds in longest_first if seconds >= 1)
        yield f"| {_name(scenario)} | {bites or 'none'} |"
    yield ""
    yield (
        "*Growth of the pollers* is the time that Lambda takes to poll the queue more often: five batches at once when"
        f" messages appear, then {LIMITS['pollers.per_minute'].value:.0f} more a minute while they wait, or"
        f" {LIMITS['provisioned.per_minute'].value:,.0f} with provisioned pollers."
    )
    yield ""
    yield (
        "Never reached: new environments a second, because pollers grow more slowly; a partition of a table,"
        " because every"
        " task and image has a key of its own; and on its own the retention."
    )
    yield ""
    yield "| Limit | | read at |"
    yield "|---|---:|---|"
    for limit in LIMITS.values():
        where = "template" if limit.source == TEMPLATE else "AWS"
        yield f"| {limit.what} | {limit.value:,.0f} | [{where}]({limit.source}) |"
    yield ""


def _accuracy(measured: Measured) -> Iterator[str]:
    yield "## Accuracy"
    yield ""
    yield ("SimPy simulates every message, of loads over a million images only in the busiest minutes.")
    yield ""
    if _THROUGHPUT.exists():
        yield from _on_the_laptop()
    yield (
        f"Assumed, because AWS gives no number: S3 notifies of an upload after {NOTIFICATION_SECONDS:.0f} s (AWS:"
        " typically seconds, sometimes a minute or longer); a poller that waits has a message as soon as it is"
        f" there, and no batching window is set; pollers return to five after {CALM_SECONDS} s without a backlog; an"
        f" idle environment is kept for {WARM_SECONDS // 60} minutes; a cold start takes"
        f" {batches_of(measured).cold:.1f} s. Not included: DynamoDB's short bursts beyond its limits and the SDK's own"
        " retries within a second, both of which would refuse less; that a provisioned poller asks SQS ten times a"
        " second at most; and other functions of the account."
    )


def _on_the_laptop() -> Iterator[str]:
    """The small end: the laptop stack's own queue processed, measured and simulated."""
    measured = json.loads(_THROUGHPUT.read_text())
    yield (
        f"The small end, compared with a measured run: {measured['runs'][0]['images']} images in the laptop stack's"
        " queue,"
        f" processed ({measured['machine']}; {measured['photo']} pixels; `make throughput`), and simulated with the"
        " batches' measured duration, so that what is compared is the queue and its pollers:"
    )
    yield ""
    yield "| Concurrent functions | images per second | seconds per batch | seconds for all | simulated | off by |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for row in measured["runs"]:
        yield (
            f"| {row['concurrency']} | {row['images_per_second']:.1f} | {row['batch_seconds']:.1f} |"
            f" {row['seconds']:.1f} | {row['simulated_seconds']:.1f} |"
            f" {row['simulated_seconds'] / row['seconds'] - 1:+.0%} |"
        )
    yield ""
    yield "One function renders the images of its batch on all cores of this machine; more functions only share them."
    yield ""


def _name(scenario: Scenario) -> str:
    minutes = "" if scenario.is_whole else f", busiest {scenario.busiest_seconds / 60:.0f} min"
    return scenario.name + minutes


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def _clock(seconds: float) -> str:
    return f"{seconds // 3600:.0f}:{seconds // 60 % 60:02.0f}:{seconds % 60:02.0f}"


def main() -> int:
    """Run every scenario and write the page; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling.page", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of all that is left to chance (default 1)")
    seed = parser.parse_args().seed
    measured, console = load(), Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    results = run(measured, seed, console.print)
    _PAGE.write_text(page_of(results, measured))
    console.print(f"Written: {_PAGE.relative_to(_ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
