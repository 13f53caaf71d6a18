"""`make scaling`: the image flow beyond one machine, from 10,000 to 100 million images a day, and a burst.

Runs `benchmarks.flow_model` with the seconds measured by `benchmarks.function_seconds`, prices what comes of it, and
writes docs/scaling.md and its plots. The same seed gives the same page.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import cost
from benchmarks.flow_model import (
    CALM_SECONDS,
    NOTIFICATION_SECONDS,
    WARM_SECONDS,
    Batches,
    Faults,
    Outcome,
    Setting,
    Use,
    arrivals,
    burst_rate,
    day_rate,
    flow_through,
    simulate,
)
from benchmarks.function_seconds import Measured, load
from benchmarks.limits import DAY, LIMITS, TEMPLATE
from benchmarks.prices import MB_PER_CPU


def recommended_concurrency(rate: float, batches: Batches) -> int:
    """Functions at once that a rate of uploads a second wants: four of five at work while images come one by one."""
    wanted = rate * batches.seconds(1) / 0.8
    return max(int(LIMITS["pollers.start"].value), ceil(wanted))


@dataclass(frozen=True)
class Scenario:
    """A load, and the setting that suits it. ``fine`` says whether every message can be followed."""

    name: str
    images: float
    rate: Callable[[float], float]
    lasts: float
    recommended: Setting
    fine: bool

    @property
    def peak_rate(self) -> float:
        """Most uploads a second."""
        return max(self.rate(self.lasts * step / 1000) for step in range(1000))


def scenarios(batches: Batches) -> tuple[Scenario, ...]:
    """The loads of docs/scaling.md."""
    days = tuple(
        _scenario(f"{name} a day", images, day_rate(images), DAY, batches, fine=images <= _MOST_FOLLOWED)
        for name, images in (("10 k", 1e4), ("100 k", 1e5), ("1 M", 1e6), ("10 M", 1e7), ("100 M", 1e8))
    )
    return (*days, _scenario("1 M in an hour", 1e6, burst_rate(1e6, 3600), 3600, batches, fine=True))


_MOST_FOLLOWED = 1e6


def _scenario(
    name: str, images: float, rate: Callable[[float], float], lasts: float, batches: Batches, *, fine: bool
) -> Scenario:
    peak = max(rate(lasts * step / 1000) for step in range(1000))
    wanted = recommended_concurrency(peak, batches)
    prefixes = max(1, ceil(peak * cost.renditions() / (0.7 * LIMITS["s3.put"].value)))
    if wanted <= LIMITS["pollers.maximum_concurrency"].value:
        account = max(int(LIMITS["account"].value), _round_up(wanted * 1.2) if wanted > _SHARE_OF_ACCOUNT else 0)
        setting = Setting("as recommended", maximum_concurrency=_round_up(wanted), account=account, prefixes=prefixes)
    else:
        pollers = ceil(_round_up(wanted) / LIMITS["provisioned.each"].value)
        setting = Setting(
            "as recommended",
            maximum_concurrency=None,
            account=_round_up(wanted * 1.2),
            provisioned=(max(pollers // 10, 2), pollers),
            prefixes=prefixes,
        )
    return Scenario(name, images, rate, lasts, setting, fine)


# Beyond this much of the account's functions others of the account would want for some.
_SHARE_OF_ACCOUNT = 0.8 * LIMITS["account"].value


def _round_up(value: float) -> int:
    """To two figures."""
    unit = int(10 ** max(len(str(int(value))) - 2, 0))
    return ceil(value / unit) * unit


DEFAULTS = Setting("template's defaults")
#: What can be had without asking AWS for more.
UNASKED = Setting("1,000 at once", maximum_concurrency=1000)
FAULTS = Faults(transient=0.001, crash=0.00001)
_ROOT = Path(__file__).resolve().parent.parent
PAGE = _ROOT / "docs" / "scaling.md"
PLOTS = _ROOT / "docs" / "plots"
_THROUGHPUT = Path(__file__).with_name("results") / "throughput.json"


def batches_of(measured: Measured, memory_mb: int = MB_PER_CPU) -> Batches:
    """The function's batches, of 12-megapixel photos as measured."""
    waiting, each = cost.seconds_of_ours(cost.Load(images=1, memory_mb=memory_mb), measured)
    return Batches(waiting, each, cold=measured.cold_start_seconds * MB_PER_CPU / memory_mb)


def use_of(measured: Measured) -> Use:
    """What an image asks of the services, as the bill counts it."""
    return Use(
        puts=cost.renditions(),
        gets=1,
        task_units=2 * ceil(measured.tasks_item_bytes / 1024),
        image_units=ceil(measured.images_item_bytes / 1024),
    )


@dataclass(frozen=True)
class Result:
    """One scenario's outcomes: with the defaults, as recommended, and with all that needs no asking.

    ``checks`` are the same two of the fluid model, where every message was followed.
    """

    scenario: Scenario
    defaults: Outcome
    recommended: Outcome
    unasked: Outcome | None
    checks: tuple[Outcome, ...]


def run(measured: Measured, seed: int, tell: Callable[[str], None]) -> list[Result]:
    """Run every scenario."""
    batches, use = batches_of(measured), use_of(measured)
    results = []
    for scenario in scenarios(batches):
        tell(f"{scenario.name} ...")

        def fluid(setting: Setting, rate: Callable[[float], float] = scenario.rate) -> Outcome:
            return flow_through(rate, setting, batches, use=use, faults=FAULTS)

        def followed(setting: Setting, of: Scenario = scenario) -> Outcome:
            uploads = arrivals(of.rate, of.lasts, seed)
            return simulate(uploads, setting, batches, use=use, faults=FAULTS, seed=seed)

        settings = (DEFAULTS, scenario.recommended)
        model = followed if scenario.fine else fluid
        outcomes = [model(setting) for setting in settings]
        checks = tuple(fluid(setting) for setting in settings) if scenario.fine else ()
        beyond = scenario.peak_rate * batches.seconds(1) > LIMITS["account"].value * 0.2
        unasked = fluid(UNASKED) if beyond else None
        results.append(Result(scenario, outcomes[0], outcomes[1], unasked, checks))
    return results


def dollars_of(result: Result, outcome: Outcome) -> float:
    """What the scenario costs in eu-central-1, without the fixed part: of a day, or of the burst."""
    days = result.scenario.lasts / DAY
    monthly = 30 if days == 1 else 1
    bill = cost.bill_of_ours(
        cost.Load(images=result.scenario.images * monthly, batch=max(outcome.mean_batch, 1)), load()
    )
    return sum(line.dollars for line in bill.running) / monthly


def page_of(results: Sequence[Result], measured: Measured) -> str:
    """docs/scaling.md."""
    return "\n".join(_lines(results, measured)).rstrip() + "\n"


def _lines(results: Sequence[Result], measured: Measured) -> Iterator[str]:
    batches = batches_of(measured)
    yield "<!-- Made by `make scaling` from benchmarks/scaling.py. Do not edit. -->"
    yield "# Scaling"
    yield ""
    yield (
        "What the image flow does under loads that no laptop makes: simulated, with the limits that AWS publishes and"
        " the seconds measured here. An image of 4 MB and 12 megapixels takes"
        f" {batches.seconds(1):.2f} s alone with {MB_PER_CPU} MB, a batch of ten {batches.seconds(10):.1f} s; so"
        f" each function at once brings {10 / batches.seconds(10):.2f} images a second, and MaximumConcurrency, 10 in"
        f" the template, {100 / batches.seconds(10):.0f}: {100 / batches.seconds(10) * DAY / 1e6:.1f} million a day."
    )
    yield ""
    yield "## What to set"
    yield ""
    yield (
        "For each load, `ProcessImageConcurrency` such that at the busiest hour four of five functions work while"
        " images come one by one. What is larger than the template's default costs nothing while it is not used."
    )
    yield ""
    yield "| Load | Most uploads a second | ProcessImageConcurrency | Account quota | Prefixes | |"
    yield "|---|---:|---:|---:|---:|---|"
    for result in results:
        scenario, setting = result.scenario, result.scenario.recommended
        pollers = (
            f"provisioned mode, {setting.provisioned[0]} to {setting.provisioned[1]} pollers; not in the template"
            if setting.provisioned
            else ""
        )
        yield (
            f"| {scenario.name} | {scenario.peak_rate:,.1f} | {setting.maximum_concurrency or '-'} |"
            f" {setting.account:,} | {setting.prefixes} | {pollers} |"
        )
    yield ""
    yield (
        "A prefix is what the keys of uploads begin with: S3 splits a busy bucket along them, in half an hour or so,"
        " and an upload's renditions begin with the upload's key. Beyond a MaximumConcurrency of 1,000 only provisioned"
        " mode goes on, or several queues; both are changes of the template, and the larger account quota is AWS's."
    )
    yield ""
    yield "## What comes of it"
    yield ""
    yield "From upload to published. A day has 1.75 times its mean rate at noon and a quarter of it at midnight."
    yield ""
    yield (
        "| Load | Setting | p50 | p90 | p99 | slowest | most waiting | at once | images a batch | set aside |"
        " not done | USD |"
    )
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for result in results:
        for outcome in filter(None, (result.defaults, result.recommended, result.unasked)):
            latencies = " | ".join(_time(outcome.quantile(share)) for share in (0.5, 0.9, 0.99, 1))
            yield (
                f"| {result.scenario.name} | {outcome.setting} | {latencies} | {outcome.peak_backlog:,.0f} |"
                f" {outcome.peak_concurrency:,.0f} | {outcome.mean_batch:.1f} | {outcome.dead:,.0f} |"
                f" {outcome.waiting:,.0f} | {dollars_of(result, outcome):,.2f} |"
            )
    yield ""
    yield (
        "USD is for the day, or the burst, without the fixed part ([cost.md](cost.md)). What is not done after two days"
        " is still in the queue, which keeps it for 14; seconds are of what was published by then. Set aside are"
        f" messages that met a transient fault ten times: {FAULTS.transient:.1%} of attempts at random,"
        f" {FAULTS.crash:.3%} of batches lose their function, and every refusal by S3 or DynamoDB."
    )
    yield ""
    yield "![Images waiting](plots/scaling-backlog.svg)"
    yield ""
    yield "![Seconds from upload to published](plots/scaling-latency.svg)"
    yield ""
    yield "## Where each limit bites"
    yield ""
    yield "How long images waited because of it, or were refused by it, in hours:minutes:seconds."
    yield ""
    yield "| Load | Setting | |"
    yield "|---|---|---|"
    for result in results:
        for outcome in filter(None, (result.defaults, result.recommended, result.unasked)):
            bites = "; ".join(
                f"{name} {_clock(seconds)}" for name, seconds in sorted(outcome.bites.items()) if seconds >= 1
            )
            yield f"| {result.scenario.name} | {outcome.setting} | {bites or 'none'} |"
    yield ""
    yield "![Batches at once](plots/scaling-pollers.svg)"
    yield ""
    yield (
        "Never met: new environments a second, because pollers grow more slowly; a partition of a table, because every"
        " task and image has a key of its own; and on its own the retention."
    )
    yield ""
    yield "| Limit | | |"
    yield "|---|---:|---|"
    for limit in LIMITS.values():
        where = "template" if limit.source == TEMPLATE else "AWS"
        yield f"| {limit.what} | {limit.value:,.0f} | [{where}]({limit.source}) |"
    yield ""
    yield "## How far to trust it"
    yield ""
    yield (
        "Up to a million images SimPy follows every message. Beyond, images are a fluid in slices of a second, and"
        " refusals and retries shares of it. Where both run, they say:"
    )
    yield ""
    yield "| Load | Setting | p50 | p99 | most waiting | emptied after |"
    yield "|---|---|---:|---:|---:|---:|"
    for result in results:
        for fine, coarse in zip((result.defaults, result.recommended), result.checks, strict=False):
            pairs = (
                *((_time(fine.quantile(share)), _time(coarse.quantile(share))) for share in (0.5, 0.99)),
                (f"{fine.peak_backlog:,.0f}", f"{coarse.peak_backlog:,.0f}"),
                (_clock(fine.ended), _clock(coarse.ended)),
            )
            yield f"| {result.scenario.name} | {fine.setting} | " + " | ".join(f"{a} / {b}" for a, b in pairs) + " |"
    yield ""
    yield (
        "First every message, then the fluid. The fluid knows no two uploads at the same moment: where functions are"
        " just enough, its p99 is too good, or, where it takes larger batches to keep up, a few seconds too bad."
    )
    yield ""
    if _THROUGHPUT.exists():
        yield from _beside_the_laptop(json.loads(_THROUGHPUT.read_text()))
    yield (
        f"Assumed, because AWS gives no number: S3 tells of an upload after {NOTIFICATION_SECONDS:.0f} s; pollers go"
        f" back to five after {CALM_SECONDS} s without a backlog; an idle environment is kept for {WARM_SECONDS // 60}"
        f" minutes; a cold start takes {batches.cold:.1f} s. Left out: DynamoDB's short bursts beyond its limits and"
        " the SDK's own retries within a second, both of which would refuse less; and other functions of the account."
    )


def _beside_the_laptop(measured: dict[str, Any]) -> Iterator[str]:
    """The small end: the laptop stack's own queue worked off, measured and simulated."""
    yield (
        f"On the laptop stack ({measured['machine']}; {measured['photo']} pixels; `python -m benchmarks.throughput`),"
        " with the batches' measured duration:"
    )
    yield ""
    yield "| Functions at once | images a second | seconds for all | simulated | memory of functions by thirds, MB |"
    yield "|---:|---:|---:|---:|---|"
    for row in measured["runs"]:
        thirds = ", ".join(f"{mb:.0f}" for mb in row["memory_mb"])
        yield (
            f"| {row['concurrency']} | {row['images_per_second']:.1f} | {row['seconds']:.1f} |"
            f" {row['simulated_seconds']:.1f} | {thirds} |"
        )
    yield ""


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def _clock(seconds: float) -> str:
    return f"{seconds // 3600:.0f}:{seconds // 60 % 60:02.0f}:{seconds % 60:02.0f}"


def ramp(setting: Setting, seconds: int) -> list[tuple[float, float]]:
    """Batches at once in each second of a backlog that does not end."""
    return [(second, setting.grown(setting.start, second)) for second in range(seconds + 1)]


def main() -> int:
    """Run every scenario, write the page and its plots; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of all that is left to chance (default 1)")
    seed = parser.parse_args().seed
    from benchmarks import plots

    measured, console = load(), Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    results = run(measured, seed, console.print)
    PAGE.write_text(page_of(results, measured))
    pairs = [(result.scenario.name, result.defaults, result.recommended) for result in results]
    plots.plot_days(pairs, PLOTS / "scaling-backlog.svg")
    plots.plot_latencies(pairs, PLOTS / "scaling-latency.svg")
    largest = next(r.scenario.recommended for r in results if r.scenario.recommended.provisioned)
    shown = (
        DEFAULTS,
        UNASKED,
        replace(UNASKED, name="no limit of the mapping", maximum_concurrency=None, account=3000),
    )
    curves = [(setting.name, ramp(setting, 600)) for setting in (*shown, replace(largest, name="provisioned pollers"))]
    plots.plot_ramp(curves, PLOTS / "scaling-pollers.svg")
    console.print(f"Written: {PAGE.relative_to(_ROOT)} and its plots.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
