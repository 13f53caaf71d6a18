"""The image flow, second by second: images are a fluid, in cohorts that arrived in the same slice of time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import ceil

# The waits after transient faults: the function's own numbers.
from darkroom.batch import FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS

from benchmarks.scaling.flow_model import (
    NOTIFICATION_SECONDS,
    WARM_SECONDS,
    Batches,
    Faults,
    Outcome,
    Pollers,
    Setting,
    Throttles,
    Use,
)
from benchmarks.scaling.limits import DAY, LIMITS

# Fewer images than this count as none.
_NOTHING = 0.5
# Returning images are spread over this many parts, as jitter does.
_SPREAD = 10


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
    """Simulate a load, slice by slice.

    Parameters
    ----------
    rate:
        Uploads a second, by second.
    horizon:
        Seconds after which the remaining images count as waiting.
    step:
        Seconds of a slice.
    """
    return _Fluid(setting, batches, use or Use(), faults or Faults(), step).run(rate, horizon)


class _Environments:
    """The number of warm environments: the most that ran at once in the last ten minutes."""

    def __init__(self) -> None:
        self._peaks: deque[tuple[float, float]] = deque()  # until when, how many; fewer and fewer

    def start(self, now: float, needed: float) -> float:
        """Use a number of environments from now on; returns how many of them are cold."""
        while self._peaks and self._peaks[0][0] < now:
            self._peaks.popleft()
        cold = max(ceil(needed) - (self._peaks[0][1] if self._peaks else 0), 0)
        while self._peaks and self._peaks[-1][1] <= needed:
            self._peaks.pop()
        self._peaks.append((now + WARM_SECONDS, ceil(needed)))
        return cold


class _Fluid:
    """The queue, its pollers and the function's environments, advanced slice by slice."""

    def __init__(self, setting: Setting, batches: Batches, use: Use, faults: Faults, step: float) -> None:
        self._batches, self._step = batches, step
        self._throttles, self._pollers, self._environments = Throttles(use, setting), Pollers(setting), _Environments()
        self._kept = (1 - faults.transient) * (1 - faults.crash)  # share of the served images
        self._queue: deque[tuple[float, float, int]] = deque()  # uploaded, images, receives
        # Images by the slice in which they return and by receives: their number, and the sum of their upload times.
        self._hidden: dict[int, dict[int, tuple[float, float]]] = {}
        self._waiting = self._in_hiding = 0.0
        self._outcome = Outcome(setting.name)

    def run(self, rate: Callable[[float], float], horizon: float) -> Outcome:
        outcome = self._outcome
        for number in range(int(horizon / self._step)):
            now = number * self._step
            if now % 60 == 0:
                outcome.backlog.append((now, self._waiting))
            came = rate(now - NOTIFICATION_SECONDS) * self._step if now >= NOTIFICATION_SECONDS else 0
            self._arrive(number, now, came)
            self._work(number, now, came)
            outcome.ended = now
            if outcome.arrived and not came and self._waiting + self._in_hiding < _NOTHING:
                break
        for limit, slices in self._throttles.bites.items():
            outcome.bite(limit, slices * self._step)
        outcome.waiting = self._waiting + self._in_hiding
        outcome.poller_hours = self._pollers.provisioned_hours
        return outcome

    def _arrive(self, number: int, now: float, came: float) -> None:
        """Add new uploads, and images whose visibility timeout has ended, to the queue."""
        if came:
            self._queue.append((now - NOTIFICATION_SECONDS, came, 0))
            self._outcome.arrived += came
            self._waiting += came
        for receives, (images, moments) in self._hidden.pop(number, {}).items():
            self._queue.append((moments / images, images, receives))
            self._waiting += images
            self._in_hiding -= images

    def _work(self, number: int, now: float, came: float) -> None:
        """Receive as much as pollers and limits allow, and let Lambda scale its pollers."""
        outcome, step = self._outcome, self._step
        size = _batch_size(self._waiting / step, self._pollers.count, self._batches)
        seconds = self._batches.seconds(size)
        room = max(LIMITS["in_flight"].value - self._in_hiding, 0)
        able = self._pollers.count * size / seconds * step
        taken = min(self._waiting, able, room)
        busy = taken / step * seconds / size
        cold = self._environments.start(now, busy)
        outcome.cold_starts += cold
        outcome.peak_concurrency = max(outcome.peak_concurrency, busy)
        outcome.batches += taken / size
        served = self._throttles.take(now, taken / step) * step
        late = seconds + (self._batches.cold if busy and cold >= busy / 2 else 0)
        self._publish(number, now, taken, late, served / taken * self._kept if taken else 0)
        backlog = size > 1 or self._waiting > max(came, 1)
        if backlog:
            outcome.bite("messages in flight" if room < able else self._pollers.holding_up, step)
        self._pollers.age(step, backlog=backlog, busy=busy)

    def _publish(self, number: int, now: float, taken: float, late: float, good: float) -> None:
        """Take the oldest images from the queue: a share is published after some seconds, the rest returns."""
        outcome = self._outcome
        rest = taken
        while rest > 1e-9 and self._queue:
            uploaded, images, receives = self._queue.popleft()
            part = min(images, rest)
            if part < images:
                self._queue.appendleft((uploaded, images - part, receives))
            rest -= part
            self._waiting -= part
            outcome.published += part * good
            outcome.latencies.append((now - uploaded + late, part * good))
            bad = part * (1 - good)
            if receives + 1 >= LIMITS["receives"].value:
                outcome.dead += bad
            elif bad > 1e-12:
                self._hide(number, uploaded, bad, receives + 1, late)
        self._waiting = max(self._waiting, 0)

    def _hide(self, number: int, uploaded: float, images: float, receives: int, late: float) -> None:
        """Return images to the queue after the function's backoff, spread by its jitter."""
        bound = min(FIRST_RETRY_SECONDS * 2 ** (receives - 1), LONGEST_RETRY_SECONDS)
        least = min(FIRST_RETRY_SECONDS / 2, bound)
        for position in range(_SPREAD):
            wait = least + (bound - least) * (position + 0.5) / _SPREAD
            there = self._hidden.setdefault(number + ceil((late + wait) / self._step), {})
            before, moments = there.get(receives, (0.0, 0.0))
            there[receives] = (before + images / _SPREAD, moments + uploaded * images / _SPREAD)
        self._in_hiding += images


def _batch_size(rate: float, pollers: float, batches: Batches) -> int:
    """The smallest batch with which the pollers keep up; the largest if none does."""
    for size in range(1, batches.size):
        if rate * batches.seconds(size) / size <= pollers:
            return size
    return batches.size
