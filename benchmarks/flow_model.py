"""The image flow, simulated: S3 -> SQS -> Lambda under the limits of `benchmarks.limits`.

Two models. `simulate` (SimPy) follows every message: received in a batch, rendered, hidden after a fault, set aside
after its last receive. `flow_through` takes seconds instead of messages, and shares of an image where it must, for
loads too large for the other. Both run on the smaller loads, and docs/scaling.md shows how far they agree.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import ceil, cos, pi

import simpy

# How a transient fault waits: the function's own rule, and its numbers.
from darkroom.batch import _FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS
from darkroom.retries import backoff

from benchmarks.limits import DAY, LIMITS

#: Assumed: how long S3's notification takes, and how long an idle environment is kept.
NOTIFICATION_SECONDS = 1.0
WARM_SECONDS = 600
# After so long without a backlog Lambda has gone back to few pollers: assumed, it gives no number.
CALM_SECONDS = 60
_HALF_HOUR = 1800
# What is left of a fluid counts as nothing below this many images.
_NOTHING = 0.5
# In so many parts the fluid spreads what comes back, as jitter does.
_SPREAD = 10


@dataclass(frozen=True)
class Batches:
    """How long the function takes for a batch.

    Attributes
    ----------
    waiting:
        Seconds that an image waits for AWS.
    each:
        Seconds of CPU that it takes.
    overlap:
        Whether the images of a batch wait side by side, as ours do; the usual sample takes one after the other.
    size:
        Most messages in one.
    cold:
        Seconds more in a new environment.
    """

    waiting: float
    each: float
    overlap: bool = True
    size: int = int(LIMITS["batch"].value)
    cold: float = 0

    def seconds(self, messages: float) -> float:
        """How long a batch of so many takes."""
        return self.waiting * (1 if self.overlap else messages) + self.each * messages


@dataclass(frozen=True)
class Use:
    """What one image asks of the services, in requests and units."""

    puts: float = 0
    gets: float = 0
    task_units: float = 0
    image_units: float = 0


@dataclass(frozen=True)
class Faults:
    """Share of images that meet a transient fault, and of batches whose function dies."""

    transient: float = 0
    crash: float = 0


@dataclass(frozen=True)
class Setting:
    """How the flow is set up.

    Attributes
    ----------
    maximum_concurrency:
        The mapping's; None leaves it to Lambda.
    account:
        Functions at once in the account, all of them for this one.
    provisioned:
        Fewest and most provisioned pollers, which take the place of ``maximum_concurrency``; None for Lambda's own.
    prefixes:
        Partitioned prefixes over which the keys of the renditions spread.
    """

    name: str
    maximum_concurrency: int | None = 10
    account: int = int(LIMITS["account"].value)
    provisioned: tuple[int, int] | None = None
    prefixes: int = 1

    @property
    def most(self) -> int:
        """Batches at once, at most."""
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
        """Which limit `most` is."""
        if self.most == self.account:
            return "functions at once in the account"
        if self.provisioned:
            return "provisioned pollers"
        return "MaximumConcurrency" if self.maximum_concurrency else "pollers of the mapping"

    def grown(self, pollers: float, seconds: float) -> float:
        """Batches at once after more seconds with a backlog."""
        per_minute = LIMITS["provisioned.per_minute" if self.provisioned else "pollers.per_minute"].value
        return min(pollers + per_minute / 60 * seconds, self.most)


class Throttles:
    """What S3 and DynamoDB take in each second; what is beyond it is refused.

    An on-demand table takes twice its previous peak, where half an hour lies between. Its short bursts beyond that,
    and the SDK's own retries within a second, are left out: AWS is a little kinder than this.
    """

    def __init__(self, use: Use, setting: Setting) -> None:
        self._units = {
            "S3 PUT requests": use.puts,
            "S3 GET requests": use.gets,
            "write units of the tasks table": use.task_units,
            "write units of the images table": use.image_units,
        }
        start = LIMITS["dynamodb.start"].value
        self._allowed = {
            "S3 PUT requests": LIMITS["s3.put"].value * setting.prefixes,
            "S3 GET requests": LIMITS["s3.get"].value * setting.prefixes,
            "write units of the tasks table": start,
            "write units of the images table": start,
        }
        self._tables = [name for name in self._units if name.startswith("write units")]
        self._peaks = dict.fromkeys(self._tables, 0.0)
        self._second, self._taken, self._window = -1, 0.0, 0
        self.bites: dict[str, float] = {}

    def take(self, now: float, images: float) -> float:
        """How many of so many images are served in this second; the rest is refused."""
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
        """Which limit leaves the fewest images a second, and how many."""
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
            for table in self._tables:
                grown = min(LIMITS["dynamodb.growth"].value * self._peaks[table], LIMITS["dynamodb.most"].value)
                self._allowed[table] = max(self._allowed[table], grown)


@dataclass
class Outcome:
    """What became of a load.

    Attributes
    ----------
    latencies:
        Seconds from upload to published, with how many images took them.
    backlog:
        Images waiting, by second, once a minute.
    bites:
        Seconds in which a limit held images up, by limit.
    """

    setting: str
    arrived: float = 0
    published: float = 0
    dead: float = 0
    waiting: float = 0
    batches: float = 0
    cold_starts: float = 0
    peak_concurrency: float = 0
    ended: float = 0
    latencies: list[tuple[float, float]] = field(default_factory=list)
    backlog: list[tuple[float, float]] = field(default_factory=list)
    bites: dict[str, float] = field(default_factory=dict)
    _quantiles: dict[float, float] = field(default_factory=dict)

    @property
    def peak_backlog(self) -> float:
        """Most images waiting."""
        return max((images for _, images in self.backlog), default=0)

    @property
    def mean_batch(self) -> float:
        """Messages in a batch, on average."""
        return (self.published + self.dead) / self.batches if self.batches else 1

    @property
    def p50(self) -> float:
        """Half of the images took no longer, in seconds."""
        return self.quantile(0.5)

    @property
    def p90(self) -> float:
        """Nine of ten."""
        return self.quantile(0.9)

    @property
    def p99(self) -> float:
        """All but one of a hundred."""
        return self.quantile(0.99)

    @property
    def max(self) -> float:
        """The slowest one published."""
        return self.quantile(1)

    def quantile(self, share: float) -> float:
        """Seconds in which that share of the published images was done."""
        if share not in self._quantiles:
            self.latencies.sort()
            seen = list(accumulate(count for _, count in self.latencies))
            wanted = share * seen[-1] * (1 - 1e-12) if seen else 0
            reached = (s for (s, _), so_far in zip(self.latencies, seen, strict=True) if so_far >= wanted)
            self._quantiles[share] = next(reached, 0)
        return self._quantiles[share]


def day_rate(images: float) -> Callable[[float], float]:
    """Uploads a second at a second of the day: few at night, 1.75 times the mean at noon."""
    return lambda second: images / DAY * (1 - 0.75 * cos(2 * pi * second / DAY)) if second < DAY else 0


def burst_rate(images: float, seconds: float) -> Callable[[float], float]:
    """Uploads a second of a burst: all in so many seconds."""
    return lambda second: images / seconds if second < seconds else 0


def arrivals(rate: Callable[[float], float], until: float, seed: int) -> Iterator[float]:
    """Moments of uploads that come independently of one another, at a rate that changes (thinning)."""
    chance = random.Random(seed)
    highest = max(rate(until * step / 1000) for step in range(1000))
    now = 0.0
    while (now := now + chance.expovariate(highest)) < until:
        if chance.random() * highest < rate(now):
            yield now


def simulate(
    uploads: Iterator[float] | Sequence[float],
    setting: Setting,
    batches: Batches,
    *,
    use: Use | None = None,
    faults: Faults | None = None,
    seed: int = 0,
    horizon: float = 2 * DAY,
) -> Outcome:
    """Follow every message.

    Parameters
    ----------
    uploads:
        Their moments, ascending.
    horizon:
        Seconds after which the rest counts as waiting.
    """
    random.seed(seed)  # the function's backoff draws from there
    return _Simulation(setting, batches, use or Use(), faults or Faults(), seed).run(uploads, horizon)


@dataclass(slots=True)
class _Message:
    uploaded: float
    receives: int = 0


class _Simulation:
    """The queue, its pollers, the function's environments, as SimPy's events move them."""

    def __init__(self, setting: Setting, batches: Batches, use: Use, faults: Faults, seed: int) -> None:
        self._setting, self._batches, self._faults = setting, batches, faults
        self._throttles = Throttles(use, setting)
        self._environment = simpy.Environment()
        self._chance = random.Random(seed)
        self._waiting: deque[_Message] = deque()
        self._hidden = 0  # received and not deleted: at work, or waiting for another attempt
        self._busy, self._pollers, self._calm = 0, float(setting.start), 0
        self._warm: list[float] = []  # when each idle environment was used last; the last one is taken first
        self._uploading = True
        self._outcome = Outcome(setting.name)

    def run(self, uploads: Iterator[float] | Sequence[float], horizon: float) -> Outcome:
        self._environment.process(self._upload(iter(uploads)))
        watch = self._environment.process(self._watch())
        self._environment.run(until=self._environment.any_of([watch, self._environment.timeout(horizon)]))
        outcome = self._outcome
        outcome.waiting = len(self._waiting) + self._hidden
        for name, seconds in self._throttles.bites.items():
            outcome.bites[name] = seconds
        return outcome

    def _upload(self, uploads: Iterator[float]) -> Generator[simpy.Event, None, None]:
        for moment in uploads:
            wait = moment + NOTIFICATION_SECONDS - self._environment.now
            if wait > 0:
                self._receive()  # what came until now, all at once
                yield self._environment.timeout(wait)
            self._outcome.arrived += 1
            self._waiting.append(_Message(moment))
        self._uploading = False
        self._receive()

    def _watch(self) -> Generator[simpy.Event, None, None]:
        """Once a second: let Lambda scale its pollers, note what holds messages up."""
        outcome = self._outcome
        while True:
            now = self._environment.now
            if now % 60 == 0:
                outcome.backlog.append((now, len(self._waiting)))
            if self._waiting:
                name = self._setting.binding if self._pollers >= self._setting.most else "growth of the pollers"
                outcome.bites[name] = outcome.bites.get(name, 0) + 1
                self._calm, self._pollers = 0, self._setting.grown(self._pollers, 1)
                self._receive()
            else:
                self._calm += 1
                if self._calm >= CALM_SECONDS:
                    self._pollers = float(max(self._setting.start, self._busy))
            outcome.ended = now
            if not (self._uploading or self._waiting or self._hidden):
                return
            yield self._environment.timeout(1)

    def _receive(self) -> None:
        """Start batches while there are messages and pollers."""
        while self._waiting and self._busy < int(self._pollers):
            if self._hidden >= LIMITS["in_flight"].value:
                self._outcome.bites["messages in flight"] = self._outcome.bites.get("messages in flight", 0) + 1
                return
            count = min(len(self._waiting), self._batches.size)
            self._start([self._waiting.popleft() for _ in range(count)])

    def _start(self, messages: list[_Message]) -> None:
        now, outcome = self._environment.now, self._outcome
        self._busy += 1
        self._hidden += len(messages)
        outcome.batches += 1
        outcome.peak_concurrency = max(outcome.peak_concurrency, self._busy)
        for message in messages:
            message.receives += 1
        served = int(self._throttles.take(now, len(messages)))
        seconds = self._batches.seconds(served) if served else self._batches.waiting
        if self._warm and now - self._warm[-1] <= WARM_SECONDS:
            self._warm.pop()
        else:
            self._warm.clear()
            outcome.cold_starts += 1
            seconds += self._batches.cold
        done = self._environment.timeout(seconds)
        if self._chance.random() < self._faults.crash:
            done.callbacks.append(lambda _: self._crash(messages))
        else:
            done.callbacks.append(lambda _: self._end(messages, served))

    def _end(self, messages: list[_Message], served: int) -> None:
        now, outcome = self._environment.now, self._outcome
        self._busy -= 1
        self._warm.append(now)
        for position, message in enumerate(messages):
            if position < served and self._chance.random() >= self._faults.transient:
                outcome.published += 1
                outcome.latencies.append((now - message.uploaded, 1))
                self._hidden -= 1
            else:
                wait = backoff(message.receives, base=_FIRST_RETRY_SECONDS, longest=_LONGEST_RETRY_SECONDS)
                self._return(message, wait)
        self._receive()

    def _crash(self, messages: list[_Message]) -> None:
        self._busy -= 1
        for message in messages:
            self._return(message, LIMITS["visibility"].value - (self._environment.now % 1))
        self._receive()

    def _return(self, message: _Message, wait: float) -> None:
        """Hide a message until it comes back, or set it aside after its last receive."""
        if message.receives >= LIMITS["receives"].value:
            self._outcome.dead += 1
            self._hidden -= 1
            return
        back = self._environment.timeout(wait)
        back.callbacks.append(lambda _: self._show(message))

    def _show(self, message: _Message) -> None:
        self._hidden -= 1
        self._waiting.append(message)
        self._receive()


def makespan(messages: int, concurrency: int, batches: Batches) -> float:
    """Seconds until a queue that is full at the start is empty, with so many functions there from the start."""
    setting = Setting(
        "all there", maximum_concurrency=None, account=concurrency, provisioned=(concurrency, concurrency)
    )
    outcome = simulate([0.0] * messages, setting, batches)
    return outcome.max - NOTIFICATION_SECONDS


def flow_through(
    rate: Callable[[float], float],
    setting: Setting,
    batches: Batches,
    *,
    use: Use | None = None,
    faults: Faults | None = None,
    horizon: float = 2 * DAY,
    step: float = 1,
) -> Outcome:
    """The same, slice by slice: images are a fluid, in cohorts of those that came in the same slice.

    Parameters
    ----------
    step:
        Seconds of a slice.
    """
    use, faults = use or Use(), faults or Faults()
    throttles, outcome = Throttles(use, setting), Outcome(setting.name)
    queue: deque[tuple[float, float, int]] = deque()  # uploaded, images, receives
    # Images by the slice in which they come back and by receives: how many, and the sum of their uploads' moments.
    hidden: dict[int, dict[int, tuple[float, float]]] = {}
    waiting = in_hiding = 0.0
    pollers, calm = float(setting.start), 0.0
    warm: deque[tuple[float, float]] = deque()  # until, environments
    lost = 1 - (1 - faults.transient) * (1 - faults.crash)
    for number in range(int(horizon / step)):
        now = number * step
        if now % 60 == 0:
            outcome.backlog.append((now, waiting))
        came = rate(now - NOTIFICATION_SECONDS) * step if now >= NOTIFICATION_SECONDS else 0
        if came:
            queue.append((now - NOTIFICATION_SECONDS, came, 0))
            outcome.arrived += came
            waiting += came
        for receives, (images, moments) in hidden.pop(number, {}).items():
            queue.append((moments / images, images, receives))
            waiting += images
            in_hiding -= images
        size = _batch_size(waiting / step, pollers, batches)
        seconds = batches.seconds(size)
        room = max(LIMITS["in_flight"].value - in_hiding, 0)
        able = min(pollers * size / seconds * step, room)
        taken = min(waiting, able)
        needed = taken / step * seconds / size
        while warm and warm[0][0] < now:
            warm.popleft()
        ready = warm[0][1] if warm else 0.0
        cold = max(ceil(needed) - ready, 0) if taken > 1e-9 else 0
        outcome.cold_starts += cold
        while warm and warm[-1][1] <= needed:
            warm.pop()
        warm.append((now + WARM_SECONDS, max(ceil(needed), 0)))
        outcome.peak_concurrency = max(outcome.peak_concurrency, needed)
        outcome.batches += taken / size
        served = throttles.take(now, taken / step) * step
        good = served / taken * (1 - lost) if taken else 0
        late = seconds + (batches.cold if needed and cold >= needed / 2 else 0)
        rest = taken
        while rest > 1e-9 and queue:
            uploaded, images, receives = queue.popleft()
            part = min(images, rest)
            if part < images:
                queue.appendleft((uploaded, images - part, receives))
            rest -= part
            waiting -= part
            outcome.published += part * good
            outcome.latencies.append((now - uploaded + late, part * good))
            bad = part * (1 - good)
            if receives + 1 >= LIMITS["receives"].value:
                outcome.dead += bad
            elif bad > 1e-12:
                bound = min(_FIRST_RETRY_SECONDS * 2**receives, _LONGEST_RETRY_SECONDS)
                least = min(_FIRST_RETRY_SECONDS / 2, bound)
                for position in range(_SPREAD):
                    wait = least + (bound - least) * (position + 0.5) / _SPREAD
                    there = hidden.setdefault(number + ceil((late + wait) / step), {})
                    before, moments = there.get(receives + 1, (0.0, 0.0))
                    there[receives + 1] = (before + bad / _SPREAD, moments + uploaded * bad / _SPREAD)
                in_hiding += bad
        if size > 1 or waiting > max(came, 1):
            name = setting.binding if pollers >= setting.most else "growth of the pollers"
            name = "messages in flight" if room < pollers * size / seconds * step else name
            outcome.bites[name] = outcome.bites.get(name, 0) + step
            calm, pollers = 0, setting.grown(pollers, step)
        else:
            waiting = max(waiting, 0)
            calm += step
            if calm >= CALM_SECONDS:
                pollers = max(setting.start, needed)
        outcome.ended = now
        if outcome.arrived and not came and waiting + in_hiding < _NOTHING:
            break
    for name, seconds in throttles.bites.items():
        outcome.bites[name] = seconds * step
    outcome.waiting = waiting + in_hiding
    return outcome


def _batch_size(rate: float, pollers: float, batches: Batches) -> int:
    """The smallest batch with which so many pollers keep up; the largest if none does."""
    for size in range(1, batches.size):
        if rate * batches.seconds(size) / size <= pollers:
            return size
    return batches.size
