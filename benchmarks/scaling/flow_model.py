"""The image flow, S3 -> SQS -> Lambda, under the limits of ``limits.py``; ``message_flow`` simulates every message."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from math import cos, pi

from benchmarks.scaling.limits import DAY, LIMITS

#: Assumed: the delay of S3's notification, and how long an idle environment is kept.
NOTIFICATION_SECONDS = 1.0
WARM_SECONDS = 600
# After this many seconds without a backlog Lambda is back to few pollers: assumed, AWS gives no number.
CALM_SECONDS = 60
_HALF_HOUR = 1800


@dataclass(frozen=True)
class Batches:
    """The duration of a batch.

    Attributes
    ----------
    waiting:
        Seconds that an image waits for AWS.
    each:
        Seconds of CPU for an image.
    overlap:
        Whether the images of a batch wait in parallel, as in Darkroom; the baseline runs them in sequence.
    size:
        Most messages in a batch.
    cold:
        Extra seconds in a new environment.
    """

    waiting: float
    each: float
    overlap: bool = True
    size: int = int(LIMITS["batch"].value)
    cold: float = 0

    def seconds(self, messages: float) -> float:
        """Seconds for a batch of a given size."""
        return self.waiting * (1 if self.overlap else messages) + self.each * messages


@dataclass(frozen=True)
class Use:
    """The requests and units that one image uses."""

    puts: float = 0
    gets: float = 0
    task_units: float = 0
    image_units: float = 0


@dataclass(frozen=True)
class Faults:
    """The share of images with a transient fault, and of batches whose function dies."""

    transient: float = 0
    crash: float = 0


@dataclass(frozen=True)
class Setting:
    """The configuration of the flow.

    Attributes
    ----------
    maximum_concurrency:
        The mapping's MaximumConcurrency; None leaves it to Lambda.
    account:
        Concurrent functions of the account, all of them for this function.
    provisioned:
        Fewest and most provisioned pollers, which replace ``maximum_concurrency``; None for Lambda's own.
    prefixes:
        Partitioned prefixes over which the keys of the renditions spread.
    """

    name: str
    maximum_concurrency: int | None = int(LIMITS["concurrency"].value)
    account: int = int(LIMITS["account"].value)
    provisioned: tuple[int, int] | None = None
    prefixes: int = 1

    @property
    def most(self) -> int:
        """The most batches at once."""
        if self.provisioned:
            return min(self.provisioned[1] * int(LIMITS["provisioned.each"].value), self.account)
        return min(self.maximum_concurrency or int(LIMITS["pollers.most"].value), self.account)

    @property
    def start(self) -> int:
        """Batches at once when messages appear."""
        if self.provisioned:
            return min(self.provisioned[0] * int(LIMITS["provisioned.each"].value), self.most)
        return min(int(LIMITS["pollers.start"].value), self.most)

    @property
    def binding(self) -> str:
        """The limit that determines `most`."""
        if self.most == self.account:
            return "functions at once in the account"
        if self.provisioned:
            return "provisioned pollers"
        return "MaximumConcurrency" if self.maximum_concurrency else "pollers of the mapping"

    def grown(self, pollers: float, seconds: float) -> float:
        """Batches at once after further seconds with a backlog."""
        per_minute = LIMITS["provisioned.per_minute" if self.provisioned else "pollers.per_minute"].value
        return min(pollers + per_minute / 60 * seconds, self.most)


class Pollers:
    """Lambda's pollers over time: more batches at once while messages wait, few again after a calm.

    Attributes
    ----------
    count:
        Batches at once.
    provisioned_hours:
        Hours of provisioned pollers so far.
    """

    def __init__(self, setting: Setting, busy: float = 0) -> None:
        self._setting = setting
        self._calm = 0.0
        self.count = float(max(setting.start, busy))
        self.provisioned_hours = 0.0

    def age(self, seconds: float, *, backlog: bool, busy: float) -> None:
        """Advance time, with or without waiting messages, and with a number of running batches."""
        if self._setting.provisioned:
            self.provisioned_hours += self.count / LIMITS["provisioned.each"].value * seconds / 3600
        if backlog:
            self._calm, self.count = 0.0, self._setting.grown(self.count, seconds)
            return
        self._calm += seconds
        if self._calm >= CALM_SECONDS:
            self.count = max(self._setting.start, busy)

    @property
    def holding_up(self) -> str:
        """The limit that keeps their number from growing."""
        return self._setting.binding if self.count >= self._setting.most else "growth of the pollers"


class Throttles:
    """What S3 and DynamoDB accept in each second; they refuse the rest.

    An on-demand table accepts twice its previous peak of half an hour ago or more. Short bursts beyond that, and the
    SDK's retries within a second, are left out, so AWS refuses a little less.

    Parameters
    ----------
    before:
        The tables' previous peak, in images a second.
    """

    def __init__(self, use: Use, setting: Setting, before: float = 0) -> None:
        self._units = {
            "S3 PUT requests": use.puts,
            "S3 GET requests": use.gets,
            "write units of the tasks table": use.task_units,
            "write units of the images table": use.image_units,
        }
        self._allowed = {
            "S3 PUT requests": LIMITS["s3.put"].value * setting.prefixes,
            "S3 GET requests": LIMITS["s3.get"].value * setting.prefixes,
        }
        self._tables = [name for name in self._units if name.startswith("write units")]
        self._allowed |= dict.fromkeys(self._tables, LIMITS["dynamodb.start"].value)
        self._peaks = {table: before * self._units[table] for table in self._tables}
        self._grow()
        self._second, self._taken, self._window = -1, 0.0, 0
        self.bites: dict[str, float] = {}

    def take(self, now: float, images: float) -> float:
        """The number of images served in this second; the rest is refused."""
        self._turn(int(now))
        name, most = self._narrowest()
        served = min(images, max(most - self._taken, 0))
        if served < images and self._bitten != name:
            self.bites[name] = self.bites.get(name, 0) + 1
            self._bitten = name
        self._taken += served
        return served

    _bitten: str | None = None

    def _narrowest(self) -> tuple[str, float]:
        """The limit that allows the fewest images a second, and their number."""
        images = {name: self._allowed[name] / units for name, units in self._units.items() if units}
        if not images:
            return "", float("inf")
        name = min(images, key=images.__getitem__)
        return name, images[name]

    def _turn(self, second: int) -> None:
        if second == self._second:
            return
        for table in self._tables:
            self._peaks[table] = max(self._peaks[table], self._taken * self._units[table])
        self._second, self._taken, self._bitten = second, 0.0, None
        if second // _HALF_HOUR != self._window:
            self._window = second // _HALF_HOUR
            self._grow()

    def _grow(self) -> None:
        """Raise the tables' capacity to twice their peak."""
        for table in self._tables:
            grown = min(LIMITS["dynamodb.growth"].value * self._peaks[table], LIMITS["dynamodb.most"].value)
            self._allowed[table] = max(self._allowed[table], grown)


@dataclass
class Outcome:
    """The outcome of a load.

    Attributes
    ----------
    latencies:
        Seconds from upload to published, with the number of images.
    peak_backlog:
        Most images waiting.
    bites:
        Seconds in which a limit delayed images, by limit.
    poller_hours:
        Hours of provisioned pollers.
    """

    setting: str
    arrived: float = 0
    published: float = 0
    dead: float = 0
    waiting: float = 0
    batches: float = 0
    cold_starts: float = 0
    peak_concurrency: float = 0
    poller_hours: float = 0
    ended: float = 0
    peak_backlog: int = 0
    latencies: list[tuple[float, float]] = field(default_factory=list)
    bites: dict[str, float] = field(default_factory=dict)
    _quantiles: dict[float, float] = field(default_factory=dict)

    @property
    def mean_batch(self) -> float:
        """Mean number of messages in a batch."""
        return (self.published + self.dead) / self.batches if self.batches else 1

    def bite(self, limit: str, seconds: float) -> None:
        """Record that a limit delayed images for some seconds."""
        self.bites[limit] = self.bites.get(limit, 0) + seconds

    @property
    def p50(self) -> float:
        """The median, in seconds."""
        return self.quantile(0.5)

    @property
    def p99(self) -> float:
        """The 99th percentile, in seconds."""
        return self.quantile(0.99)

    @property
    def max(self) -> float:
        """The slowest published image, in seconds."""
        return self.quantile(1)

    def quantile(self, share: float) -> float:
        """Seconds in which a share of the published images was done."""
        if share not in self._quantiles:
            self.latencies.sort()
            seen = list(accumulate(count for _, count in self.latencies))
            wanted = share * seen[-1] * (1 - 1e-12) if seen else 0
            reached = (s for (s, _), so_far in zip(self.latencies, seen, strict=True) if so_far >= wanted)
            self._quantiles[share] = next(reached, 0)
        return self._quantiles[share]


def day_rate(images: float) -> Callable[[float], float]:
    """Uploads a second at a time of day: few at night, 1.75 times the mean at noon."""
    return lambda second: images / DAY * (1 - 0.75 * cos(2 * pi * second / DAY)) if second < DAY else 0


def burst_rate(images: float, seconds: float) -> Callable[[float], float]:
    """Uploads a second of a burst: all images within some seconds."""
    return lambda second: images / seconds if second < seconds else 0


def peak_of(rate: Callable[[float], float], until: float) -> float:
    """The highest rate before a moment."""
    return max(rate(until * step / 1000) for step in range(1000))


def arrivals(rate: Callable[[float], float], until: float, seed: int) -> Iterator[float]:
    """Moments of independent uploads at a changing rate (thinning)."""
    chance = random.Random(seed)
    highest = peak_of(rate, until)
    now = 0.0
    while (now := now + chance.expovariate(highest)) < until:
        if chance.random() * highest < rate(now):
            yield now
