"""One SQS message among the others of its batch: it is done, comes back later, or is moved to the dead-letter queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from aws_lambda_powertools import Logger

from darkroom.dead_letters import ERROR_CODE_ATTRIBUTE, DeadLetters
from darkroom.deadline import Deadline
from darkroom.errors import InProgressElsewhere, OutOfTime, TransientFault, UnexpectedError
from darkroom.messages import Task
from darkroom.retries import backoff

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

TaskT = TypeVar("TaskT", bound=Task)
OutcomeT = TypeVar("OutcomeT", covariant=True)
_T = TypeVar("_T", contravariant=True)

# Kept back from Lambda's timeout for giving unfinished messages back.
_SECONDS_TO_ANSWER = 3
# Of these, kept back for the answer itself.
_SECONDS_TO_RETURN = 0.5
FIRST_RETRY_SECONDS = 10
LONGEST_RETRY_SECONDS = 900

_logger = Logger()


class Process(Protocol[_T, OutcomeT]):
    """Brings one task to its end."""

    def __call__(self, task: _T, deadline: Deadline, *, redriven: bool) -> OutcomeT:
        """Return how it ended, for the report. Raises TransientFault: try again later."""


@dataclass(frozen=True)
class Attempt(Generic[TaskT, OutcomeT]):
    """One task as this invocation left it. ``started`` and ``ended`` are seconds since the epoch.

    ``is_first``: the message was never received before, nor does it come back from a dead-letter queue.
    """

    task: TaskT
    started: float
    ended: float
    outcome: OutcomeT | TransientFault
    is_first: bool = True


@dataclass(frozen=True)
class ReceivedMessage(Generic[TaskT, OutcomeT]):
    """One message's tasks. While one thread works on them, another may ask how far it is: both lists only grow."""

    tasks: Sequence[TaskT]
    process: Process[TaskT, OutcomeT]
    is_first: bool = True
    _started: list[float] = field(default_factory=list)
    _ended: list[Attempt[TaskT, OutcomeT]] = field(default_factory=list)

    def work(self, deadline: Deadline, *, redriven: bool = False) -> None:
        """Attempt one task after the other, whatever becomes of each, until the function has to answer."""
        for task in self.tasks:
            if time() > deadline.at - _SECONDS_TO_ANSWER:
                return
            started = time()
            self._started.append(started)
            outcome: OutcomeT | TransientFault
            try:
                outcome = self.process(task, deadline, redriven=redriven)
            except TransientFault as fault:
                outcome = fault
            except Exception as error:  # noqa: BLE001 # a defect of ours must not cost the message its reason
                outcome = UnexpectedError(f"{type(error).__name__}: {error}")
                outcome.__cause__ = error
            self._ended.append(Attempt(task, started, time(), outcome, self.is_first))

    def attempts(self) -> list[Attempt[TaskT, OutcomeT]]:
        """What has become of every task by now; what is still under way, or not begun, is out of time."""
        ended, now = list(self._ended), time()
        out_of_time = OutOfTime("The function had to answer before the task was done.")
        started = [*self._started, *(now for _ in self.tasks)]
        return ended + [
            Attempt(task, started[number], now, out_of_time, self.is_first)
            for number, task in enumerate(self.tasks)
            if number >= len(ended)
        ]


@dataclass(frozen=True)
class MessageHandler(Generic[TaskT, OutcomeT]):
    """Works on messages side by side.

    Attributes
    ----------
    read:
        Reads a message's body: its tasks.
    process:
        Brings one task to its end.
    workers:
        Threads that work; codecs and the network leave the interpreter free.
    answerers:
        Threads that give messages back and set them aside, so that work which hangs cannot keep them from it.
    max_receives:
        The queue's maxReceiveCount: at that receive an unfinished task becomes a dead letter with its reason.
    set_visibility_timeout:
        Makes a message, by its receipt handle, visible again after some seconds.
    report:
        Told of every attempt, of when its message was sent (seconds since the epoch), and whether it was the last.
    """

    read: Callable[[str], Sequence[TaskT]]
    process: Process[TaskT, OutcomeT]
    dead_letters: DeadLetters
    workers: Executor
    answerers: Executor
    max_receives: int
    set_visibility_timeout: Callable[[str, float], None]
    report: Callable[[Attempt[TaskT, OutcomeT], float, bool], None]

    def message(self, body: str, *, is_first: bool = True) -> ReceivedMessage[TaskT, OutcomeT]:
        """Read a message's body, to work on its tasks."""
        return ReceivedMessage(self.read(body), self.process, is_first)

    async def take(self, record: SQSRecord, deadline: Deadline) -> None:
        """Work on one message.

        Raises
        ------
        TransientFault
            The message must stay in its queue. It becomes visible again after a while.
        """
        redriven = ERROR_CODE_ATTRIBUTE in record.message_attributes
        receives = int(record.attributes.approximate_receive_count)
        message = self.message(record.body, is_first=receives == 1 and not redriven)
        work = asyncio.get_running_loop().run_in_executor(
            self.workers, lambda: message.work(deadline, redriven=redriven)
        )
        # Not wait_for, which would cancel: a thread cannot be. What it still does is safe to be done again.
        await asyncio.wait([work], timeout=max(deadline.at - time() - _SECONDS_TO_ANSWER, 0))

        sent = int(record.attributes.sent_timestamp) / 1000
        is_last = receives >= self.max_receives
        faults: list[TransientFault] = []
        for attempt in message.attempts():
            task, outcome = attempt.task, attempt.outcome
            if isinstance(outcome, TransientFault):
                faults.append(outcome)
                if is_last:
                    await self._answer(deadline, self.dead_letters.send, task.body, task.task_id, outcome)
            self.report(attempt, sent, is_last)
        if faults and not is_last:
            wait = max(_wait(fault, receives) for fault in faults)
            await self._answer(deadline, self.set_visibility_timeout, record.receipt_handle, wait)
            raise faults[0]

    async def _answer(self, deadline: Deadline, call: Callable[..., None], *arguments: object) -> None:
        """Make a call that the answer depends on. Raises OutOfTime where that takes longer than Lambda allows."""
        made = asyncio.get_running_loop().run_in_executor(self.answerers, call, *arguments)
        done, _ = await asyncio.wait([made], timeout=max(deadline.at - time() - _SECONDS_TO_RETURN, 0))
        if not done:
            raise OutOfTime("SQS did not answer before the function had to.")
        try:
            await made
        except TransientFault as fault:  # the message waits for its visibility timeout: let people know why
            _logger.warning("Not answered: %s", fault)
            raise


def _wait(fault: TransientFault, receives: int) -> float:
    """Seconds until a task is worth another attempt."""
    wait = backoff(receives, base=FIRST_RETRY_SECONDS, longest=LONGEST_RETRY_SECONDS)
    return fault.retry_after + wait / 10 if isinstance(fault, InProgressElsewhere) else wait
