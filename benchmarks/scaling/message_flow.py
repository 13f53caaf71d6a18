"""The image flow, message by message (SimPy): received in a batch, rendered, hidden after a fault, or a dead letter."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import simpy

# The waits after transient faults: the function's own rule and numbers.
from darkroom.batch import FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS
from darkroom.retries import backoff

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


def simulate(
    uploads: Iterator[float] | Sequence[float],
    setting: Setting,
    batches: Batches,
    *,
    use: Use | None = None,
    faults: Faults | None = None,
    busy: int = 0,
    seed: int = 0,
    horizon: float = 2 * DAY,
) -> Outcome:
    """Simulate every message.

    Parameters
    ----------
    uploads:
        Times of the uploads, ascending.
    busy:
        Batches at once before the start: pollers, warm environments and the tables' peaks match them.
    horizon:
        Seconds after which the remaining images count as waiting.
    """
    random.seed(seed)  # the function's backoff uses this generator
    return _Simulation(setting, batches, use or Use(), faults or Faults(), busy, seed).run(uploads, horizon)


@dataclass(slots=True)
class _Message:
    uploaded: float
    receives: int = 0


class _Simulation:
    """The queue, its pollers and the function's environments, advanced by SimPy's events."""

    def __init__(self, setting: Setting, batches: Batches, use: Use, faults: Faults, busy: int, seed: int) -> None:
        self._batches, self._faults = batches, faults
        self._throttles = Throttles(use, setting, busy / batches.seconds(1))
        self._environment = simpy.Environment()
        self._chance = random.Random(seed)
        self._waiting: deque[_Message] = deque()
        self._hidden = 0  # received and not deleted: in progress, or waiting for another attempt
        self._busy, self._pollers = 0, Pollers(setting, busy)
        self._warm = [0.0] * busy  # when each idle environment was last used; the most recent is used first
        self._uploading = True
        self._outcome = Outcome(setting.name)

    def run(self, uploads: Iterator[float] | Sequence[float], horizon: float) -> Outcome:
        self._environment.process(self._upload(iter(uploads)))
        watch = self._environment.process(self._watch())
        self._environment.run(until=self._environment.any_of([watch, self._environment.timeout(horizon)]))
        outcome = self._outcome
        outcome.waiting = len(self._waiting) + self._hidden
        outcome.poller_hours = self._pollers.provisioned_hours
        outcome.bites |= self._throttles.bites
        return outcome

    def _upload(self, uploads: Iterator[float]) -> Generator[simpy.Event, None, None]:
        for moment in uploads:
            wait = moment + NOTIFICATION_SECONDS - self._environment.now
            if wait > 0:
                self._receive()  # all uploads until now
                yield self._environment.timeout(wait)
            self._outcome.arrived += 1
            self._waiting.append(_Message(moment))
        self._uploading = False
        self._receive()

    def _watch(self) -> Generator[simpy.Event, None, None]:
        """Once a second: let Lambda scale its pollers, record what delays messages."""
        outcome = self._outcome
        while True:
            now = self._environment.now
            outcome.peak_backlog = max(outcome.peak_backlog, len(self._waiting))
            if self._waiting:
                outcome.bite(self._pollers.holding_up, 1)
            self._pollers.age(1, backlog=bool(self._waiting), busy=self._busy)
            self._receive()
            outcome.ended = now
            if not (self._uploading or self._waiting or self._hidden):
                return
            yield self._environment.timeout(1)

    def _receive(self) -> None:
        """Start batches while there are messages and pollers."""
        while self._waiting and self._busy < int(self._pollers.count):
            if self._hidden >= LIMITS["in_flight"].value:
                self._outcome.bite("messages in flight", 1)
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
                wait = backoff(message.receives, base=FIRST_RETRY_SECONDS, longest=LONGEST_RETRY_SECONDS)
                self._return(message, wait)
        self._receive()

    def _crash(self, messages: list[_Message]) -> None:
        self._busy -= 1
        for message in messages:
            self._return(message, LIMITS["visibility"].value - (self._environment.now % 1))
        self._receive()

    def _return(self, message: _Message, wait: float) -> None:
        """Hide a message until its next attempt, or move it to the dead-letter queue after its last."""
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
    """Seconds until a full queue is empty, with all functions running from the start."""
    setting = Setting(
        "all there", maximum_concurrency=None, account=concurrency, provisioned=(concurrency, concurrency)
    )
    outcome = simulate([0.0] * messages, setting, batches)
    return outcome.max - NOTIFICATION_SECONDS
