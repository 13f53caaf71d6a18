"""Admission: ten images share memory and vCPU, first come, first served."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from time import sleep, time

import pytest
from darkroom.deadline import Deadline
from darkroom.errors import NotBegun
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.process_image.admission import Admission

MB = 2**20


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def in_seconds(clock: Clock, seconds: float) -> Deadline:
    return Deadline(clock() + seconds)


def until(happened: Event) -> None:
    assert happened.wait(30)


@dataclass
class Worker:
    """An image in its own thread: it renders until it gets a signal to end."""

    name: str
    memory: int
    seconds: float = 1
    rendering: Event = field(default_factory=Event)
    end: Event = field(default_factory=Event)

    def render(self, admission: Admission, deadline: Deadline, order: list[str]) -> None:
        with admission.turn(self.memory, self.seconds, deadline):
            order.append(self.name)
            self.rendering.set()
            until(self.end)


class Batch:
    """Workers that start one after the other."""

    def __init__(self, admission: Admission, deadline: Deadline, pool: ThreadPoolExecutor) -> None:
        self.admission, self.deadline, self.pool = admission, deadline, pool
        self.order: list[str] = []
        self.came = 0

    def come(self, worker: Worker) -> Future[None]:
        self.came += 1
        future = self.pool.submit(worker.render, self.admission, self.deadline, self.order)
        end = time() + 30
        while self.admission.waiting + len(self.order) < self.came:
            if future.done():  # refused before it waited
                self.came -= 1
                break
            assert time() < end
            sleep(0.001)
        return future


@pytest.fixture
def pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(16)


def test_a_large_image_is_not_overtaken_by_small_ones(pool: ThreadPoolExecutor) -> None:
    clock = Clock()
    batch = Batch(Admission(100 * MB, vcpus=4, now=clock), in_seconds(clock, 50), pool)
    first, large, small = Worker("first", 60 * MB), Worker("large", 90 * MB), Worker("small", 10 * MB)
    done = [batch.come(worker) for worker in (first, large, small)]
    assert batch.order == ["first"], "the small one has room, and waits behind the large one"
    for worker in (first, large, small):
        worker.end.set()
    for future in done:
        future.result(30)
    assert batch.order == ["first", "large", "small"]


@pytest.mark.parametrize(("vcpus", "at_once"), [(0.3, 1), (1, 1), (2, 2), (5.8, 6)])
def test_as_many_render_at_once_as_there_are_vcpus(pool: ThreadPoolExecutor, vcpus: float, at_once: int) -> None:
    clock = Clock()
    batch = Batch(Admission(100 * MB, vcpus, now=clock), in_seconds(clock, 50), pool)
    workers = [Worker(str(number), MB) for number in range(8)]
    done = [batch.come(worker) for worker in workers]
    assert batch.order == [worker.name for worker in workers[:at_once]]
    for worker in workers:
        worker.end.set()
    for future in done:
        future.result(30)
    assert batch.order == [worker.name for worker in workers]


def test_an_image_without_enough_time_is_refused_before_it_waits(pool: ThreadPoolExecutor) -> None:
    clock = Clock()
    batch = Batch(Admission(100 * MB, 1, now=clock), in_seconds(clock, 50), pool)
    workers = [Worker(str(number), MB, seconds=12) for number in range(5)]
    done = [batch.come(worker) for worker in workers]
    with pytest.raises(NotBegun, match="begin in 36 s and take about 12 s"):
        done[3].result(30)
    for worker in workers:
        worker.end.set()
    for future in done[:3]:
        future.result(30)


def test_a_slow_machine_begins_fewer(pool: ThreadPoolExecutor) -> None:
    clock = Clock()
    admission = Admission(100 * MB, 1, now=clock)
    for _ in range(8):
        with admission.turn(MB, 5, in_seconds(clock, 50)):
            clock.seconds += 15
    with pytest.raises(NotBegun), admission.turn(MB, 10, in_seconds(clock, 30)):
        pass


def test_an_image_too_slow_for_any_invocation_begins_at_the_start_of_one() -> None:
    clock = Clock()
    admission = Admission(100 * MB, 1, now=clock)
    with admission.turn(MB, 1000, in_seconds(clock, 50)):
        pass
    with pytest.raises(NotBegun), admission.turn(MB, 1000, in_seconds(clock, 30)):
        pass


def test_an_image_still_waiting_for_memory_at_the_deadline_does_not_begin() -> None:
    admission = Admission(100 * MB, 2)
    with (
        admission.turn(90 * MB, 0.01, Deadline(time() + 50)),
        pytest.raises(NotBegun, match="took all"),
        admission.look(20 * MB, Deadline(time() + 5.01)),
    ):
        pass


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 100), st.integers(1, 30)), min_size=1, max_size=10), st.integers(1, 3))
def test_every_image_gets_its_turn_and_all_memory_is_released(images: list[tuple[int, int]], vcpus: int) -> None:
    admission = Admission(100 * MB, vcpus)
    deadline = Deadline(time() + 3600)

    def render(whole: int, looked: int) -> None:
        with admission.look(looked * MB, deadline) as place:
            if admission.admit(place, max(whole, looked) * MB, 0.001, deadline):
                return
        with admission.turn(max(whole, looked) * MB, 0.001, deadline):
            pass

    with ThreadPoolExecutor(10) as pool:
        for future in [pool.submit(render, *image) for image in images]:
            future.result(30)
    with admission.turn(100 * MB, 1, deadline):
        assert admission.waiting == 0


@pytest.mark.parametrize(
    ("slowness", "most_receives", "most_attempts"), [(0.8, 3, 1), (1, 3, 1), (1.3, 4, 2), (3, 10, 3)]
)
def test_ten_animations_in_one_batch_are_all_done_within_the_attempts_that_a_message_has(
    pool: ThreadPoolExecutor, slowness: float, most_receives: int, most_attempts: int
) -> None:
    # given ten that are expected to take 9.3 s each of the only vCPU, and functions of 50 s that may be slower
    clock, expected = Clock(), 9.3
    admission = Admission(1000 * MB, 1, now=clock)
    left, attempts, receives = [str(number) for number in range(10)], Counter[str](), 0
    # when each receive takes what is left
    while left:
        receives += 1
        deadline = in_seconds(clock, 50)
        batch = Batch(admission, deadline, pool)
        workers = {name: Worker(name, 100 * MB, expected) for name in left}
        futures = {name: batch.come(worker) for name, worker in workers.items()}
        ended = 0
        while not all(future.done() for future in futures.values()):  # one after the other
            if len(batch.order) == ended:
                sleep(0.001)
                continue
            name, ended = batch.order[ended], ended + 1
            attempts[name] += 1
            end = clock() + expected * slowness
            clock.seconds = min(end, deadline.at - 4)
            workers[name].end.set()
            futures[name].result(30)
            if end <= deadline.at - 4:
                left.remove(name)
        told = [future.exception(30) for name, future in futures.items() if name not in batch.order]
        assert all(isinstance(fault, NotBegun) for fault in told), "untouched: it costs no attempt"
        assert batch.order, "every receive begins something"
    # then few receives were enough: of 30 that the queue gives a message, and 10 attempts
    assert receives <= most_receives
    assert max(attempts.values()) <= most_attempts
