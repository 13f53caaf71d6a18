"""Admit images to rendering: a batch shares the function's memory and vCPUs, first come, first served.

Source: docs/decisions/0020-admission.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition
from time import time

from darkroom.deadline import Deadline
from darkroom.errors import NotBegun

#: With so many seconds left an image begins although it is expected to take longer: no invocation has many more.
SECONDS_OF_A_WHOLE_INVOCATION = 35
#: Kept from a function's time for writing the renditions and for answering.
_SECONDS_TO_PUBLISH = 5
#: The weight of the latest image in the pace.
_WEIGHT = 0.3


@dataclass(eq=False)
class _Image:
    """An image that renders, or waits for it. ``seconds`` is the estimate of its CPU time on one vCPU."""

    seconds: float
    began: float = 0


@dataclass
class Place:
    """The resources that one image holds: bytes, and a vCPU while it is rendered."""

    memory: int = 0
    image: _Image | None = None


class Admission:
    """Memory and vCPUs for the images that are rendered at the same time.

    The size of an image is known only after a look at its file, so memory is reserved in two steps. An image that must
    wait in the second step first gives its memory back, so no image waits for memory that a waiting one holds.

    Parameters
    ----------
    capacity : int
        Total bytes.
    vcpus : float
        The function's vCPUs: 1 for every 1769 MB.
    now : function
        Seconds since the epoch.
    """

    def __init__(self, capacity: int, vcpus: float, now: Callable[[], float] = time) -> None:
        self.capacity = capacity
        self.seats = max(1, round(vcpus))
        self._pace = max(1.0, self.seats / vcpus)
        self._now = now
        self._free = capacity
        self._running: list[_Image] = []
        self._waiting_for_seats: list[_Image] = []
        self._waiting_for_memory: list[_Image] = []
        self._changed = Condition()

    @property
    def waiting(self) -> int:
        """The number of images that wait for their turn."""
        return len(self._waiting_for_memory) + len(self._waiting_for_seats)

    @contextmanager
    def look(self, memory: int, deadline: Deadline) -> Iterator[Place]:
        """Wait for the memory to look at a file, and hold it inside the ``with`` block. Raises NotBegun."""
        place = Place()
        try:
            with self._changed:
                self._wait_for(lambda: memory <= self._free, deadline)
                self._hold(place, memory)
            yield place
        finally:
            self._leave(place)

    def admit(self, place: Place, memory: int, seconds: float, deadline: Deadline) -> bool:
        """Raise the memory held by :meth:`look` to ``memory`` bytes, and wait for a vCPU.

        Returns
        -------
        bool
            False if the memory is not free now, or other images wait: leave :meth:`look` and call :meth:`turn`.

        Raises
        ------
        NotBegun
            The image would not be done before the deadline.
        """
        image = _Image(seconds)
        with self._changed:
            self._refuse_if_late(image, deadline)
            more = max(memory - place.memory, 0)
            if self._waiting_for_memory or more > self._free:
                return False
            self._hold(place, more)
            self._take_seat(place, image, deadline)
        return True

    @contextmanager
    def turn(self, memory: int, seconds: float, deadline: Deadline) -> Iterator[None]:
        """Wait for memory, after all earlier images, then for a vCPU; hold both inside the ``with`` block.

        Raises
        ------
        NotBegun
            The image would not be done before the deadline.
        """
        place, image = Place(), _Image(seconds)
        try:
            with self._changed:
                self._refuse_if_late(image, deadline)
                self._waiting_for_memory.append(image)
                try:
                    self._wait_for(lambda: self._waiting_for_memory[0] is image and memory <= self._free, deadline)
                    self._hold(place, memory)
                finally:
                    self._waiting_for_memory.remove(image)
                    self._changed.notify_all()
                self._take_seat(place, image, deadline)
            yield
        finally:
            self._leave(place)

    def _wait_for(self, is_my_turn: Callable[[], bool], deadline: Deadline) -> None:
        if not self._changed.wait_for(is_my_turn, max(deadline.at - _SECONDS_TO_PUBLISH - self._now(), 0)):
            raise NotBegun("The images before this one took all of the function's time.")

    def _hold(self, place: Place, memory: int) -> None:
        self._free -= memory
        place.memory += memory

    def _take_seat(self, place: Place, image: _Image, deadline: Deadline) -> None:
        self._waiting_for_seats.append(image)
        try:
            self._wait_for(lambda: self._waiting_for_seats[0] is image and len(self._running) < self.seats, deadline)
            self._refuse_if_late(image, deadline)
            image.began = self._now()
            self._running.append(image)
            place.image = image
        finally:
            self._waiting_for_seats.remove(image)
            self._changed.notify_all()

    def _leave(self, place: Place) -> None:
        with self._changed:
            self._free += place.memory
            if place.image is not None:
                self._running.remove(place.image)
                self._learn_pace(place.image)
            self._changed.notify_all()

    def _refuse_if_late(self, image: _Image, deadline: Deadline) -> None:
        now, queue = self._now(), [*self._waiting_for_seats, *self._waiting_for_memory]
        ahead = queue[: queue.index(image)] if image in queue else queue
        begins_now = len(self._running) + len(ahead) < self.seats
        left = deadline.at - _SECONDS_TO_PUBLISH - now
        if begins_now and left >= SECONDS_OF_A_WHOLE_INVOCATION:
            return
        to_do = sum(max(0.0, other.seconds * self._pace - (now - other.began)) for other in self._running)
        to_do += sum(other.seconds * self._pace for other in ahead)
        wait = 0.0 if begins_now else to_do / self.seats
        if wait + image.seconds * self._pace > left:
            raise NotBegun(
                f"{max(left, 0):.0f} s are left; the image would begin in {wait:.0f} s "
                f"and take about {image.seconds * self._pace:.0f} s."
            )

    def _learn_pace(self, image: _Image) -> None:
        measured = (self._now() - image.began) / max(image.seconds, 0.05)
        self._pace += _WEIGHT * (min(max(measured, 0.25), 10.0) - self._pace)
