"""The image flow beyond one machine: loads from 10,000 to 100 million images a day, and a burst.

Each is simulated (``message_flow``) with the recommended setting and the seconds measured by
`benchmarks.cost.function_seconds`, and priced. Of a load above a million images only the busiest minutes are simulated.
``page`` writes the results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from benchmarks.cost import bill as cost
from benchmarks.cost import durations
from benchmarks.cost.function_seconds import Measured
from benchmarks.cost.prices import MB_PER_CPU, PRICES
from benchmarks.scaling.flow_model import (
    Batches,
    Faults,
    Outcome,
    Setting,
    Use,
    arrivals,
    burst_rate,
    day_rate,
    peak_of,
)
from benchmarks.scaling.limits import DAY, LIMITS
from benchmarks.scaling.message_flow import simulate

DEFAULTS = Setting("template's defaults")
FAULTS = Faults(transient=0.001, crash=0.00001)
# Images that SimPy can simulate one by one within minutes.
_MOST_FOLLOWED = 1e6
# Above this share of the account's concurrency, its other functions could be throttled.
_SHARE_OF_ACCOUNT = 0.8 * LIMITS["account"].value


def recommended_concurrency(rate: float, batches: Batches) -> int:
    """Concurrent functions for a rate of uploads a second, at least the template's default.

    Four of five are busy while images arrive one by one.
    """
    return max(DEFAULTS.most, ceil(rate * batches.seconds(1) / 0.8))


@dataclass(frozen=True)
class Scenario:
    """A load, and the recommended setting."""

    name: str
    images: float
    rate: Callable[[float], float]
    lasts: float
    recommended: Setting

    @property
    def is_whole(self) -> bool:
        """Whether every message is simulated, not only those of the busiest minutes."""
        return self.images <= _MOST_FOLLOWED

    @property
    def peak_rate(self) -> float:
        """Most uploads a second."""
        return peak_of(self.rate, self.lasts)

    @property
    def busiest_seconds(self) -> float:
        """The part that is simulated of a large load: half an hour, or a million images."""
        return min(1800, _MOST_FOLLOWED / self.peak_rate)


def scenarios(batches: Batches) -> tuple[Scenario, ...]:
    """The loads of docs/scaling.md."""
    days = tuple(
        _scenario(f"{name} a day", images, day_rate(images), DAY, batches)
        for name, images in (("10 k", 1e4), ("100 k", 1e5), ("1 M", 1e6), ("10 M", 1e7), ("100 M", 1e8))
    )
    return (*days, _scenario("1 M in an hour", 1e6, burst_rate(1e6, 3600), 3600, batches))


def _scenario(name: str, images: float, rate: Callable[[float], float], lasts: float, batches: Batches) -> Scenario:
    peak = peak_of(rate, lasts)
    wanted = recommended_concurrency(peak, batches)
    prefixes = max(1, ceil(peak * durations.renditions() / (0.7 * LIMITS["s3.put"].value)))
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
    return Scenario(name, images, rate, lasts, setting)


def _round_up(value: float) -> int:
    """To two figures."""
    unit = int(10 ** max(len(str(int(value))) - 2, 0))
    return ceil(value / unit) * unit


def batches_of(measured: Measured, memory_mb: int = MB_PER_CPU) -> Batches:
    """The function's batches of 12-megapixel photos, as measured."""
    duration = durations.of_ours(cost.Load.megabytes, memory_mb, measured)
    return Batches(duration.waiting, duration.computing, cold=measured.cold_start_seconds * MB_PER_CPU / memory_mb)


def use_of(measured: Measured) -> Use:
    """The requests and units of an image, as the bill counts them."""
    return Use(
        puts=durations.renditions(),
        gets=1,
        task_units=2 * ceil(measured.tasks_item_bytes / 1024),
        image_units=ceil(measured.images_item_bytes / 1024),
    )


def run(measured: Measured, seed: int, tell: Callable[[str], None]) -> list[tuple[Scenario, Outcome]]:
    """Run every scenario; ``tell`` is called before each."""
    batches, use = batches_of(measured), use_of(measured)
    results = []
    for scenario in scenarios(batches):
        tell(f"{scenario.name} ...")
        if scenario.is_whole:
            uploads = arrivals(scenario.rate, scenario.lasts, seed)
            outcome = simulate(uploads, scenario.recommended, batches, use=use, faults=FAULTS, seed=seed)
        else:
            outcome = _busiest_minutes(scenario, batches, use, seed)
        results.append((scenario, outcome))
    return results


def _busiest_minutes(scenario: Scenario, batches: Batches, use: Use, seed: int) -> Outcome:
    """The busiest minutes around noon, with as many functions running at the start as the rate needs."""
    lasts = scenario.busiest_seconds
    uploads = arrivals(lambda second: scenario.rate((scenario.lasts - lasts) / 2 + second), lasts, seed)
    busy = ceil(scenario.peak_rate * batches.seconds(1))
    return simulate(uploads, scenario.recommended, batches, use=use, faults=FAULTS, busy=busy, seed=seed)


def dollars_of(scenario: Scenario, outcome: Outcome, measured: Measured) -> float:
    """Cost of all its images in eu-central-1, without the stack's fixed costs: of a day, or of the burst."""
    load = cost.Load(images=scenario.images, batch=max(outcome.mean_batch, 1), seconds=scenario.lasts)
    hours = outcome.poller_hours * (1 if scenario.is_whole else scenario.lasts / scenario.busiest_seconds)
    pollers = PRICES["lambda.poller"].of(hours, load.region)
    return cost.bill_of_ours(load, measured).running_dollars + pollers
