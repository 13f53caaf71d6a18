"""One SQS message of a batch: it is processed, comes back later, or is moved to the dead-letter queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from darkroom.came_with import CameWith, from_lambda, is_redriven, working_on
from darkroom.dead_letters import DeadLetters
from darkroom.deadline import Deadline
from darkroom.errors import InProgressElsewhere, NotBegun, OutOfTime, TransientFault, UnexpectedError
from darkroom.logs import logger
from darkroom.messages import Task
from darkroom.retries import backoff

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

TaskT = TypeVar("TaskT", bound=Task)
OutcomeT = TypeVar("OutcomeT", covariant=True)
_T = TypeVar("_T", contravariant=True)

# Reserved from Lambda's timeout for returning unfinished messages.
_SECONDS_TO_ANSWER = 3
# Of these, reserved for the answer itself.
_SECONDS_TO_RETURN = 0.5
FIRST_RETRY_SECONDS = 10
LONGEST_RETRY_SECONDS = 900


class Process(Protocol[_T, OutcomeT]):
    """Processes one task."""

    def __call__(self, task: _T, deadline: Deadline, *, redriven: bool) -> OutcomeT:
        """Return how it ended, for the report. Raises TransientFault if it should be retried."""


@dataclass(frozen=True)
class Attempt(Generic[TaskT, OutcomeT]):
    """The outcome of one task in this invocation. ``started`` and ``ended`` are seconds since the epoch.

    ``is_first``: the message was never received before and was not redriven.
    """

    task: TaskT
    started: float
    ended: float
    outcome: OutcomeT | TransientFault
    is_first: bool = True


@dataclass(frozen=True)
class ReceivedMessage(Generic[TaskT, OutcomeT]):
    """The tasks of one message. One thread processes them while another reads the progress: both lists only grow."""

    tasks: Sequence[TaskT]
    process: Process[TaskT, OutcomeT]
    is_first: bool = True
    _started: list[float] = field(default_factory=list)
    _ended: list[Attempt[TaskT, OutcomeT]] = field(default_factory=list)

    def work(self, deadline: Deadline, *, redriven: bool = False) -> None:
        """Attempt the tasks one after the other, even if some fail, until the function has to answer."""
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
            except Exception as error:  # noqa: BLE001 # a defect must not cost the message its reason
                outcome = UnexpectedError(f"{type(error).__name__}: {error}")
                outcome.__cause__ = error
            self._ended.append(Attempt(task, started, time(), outcome, self.is_first))

    def attempts(self) -> list[Attempt[TaskT, OutcomeT]]:
        """Return the outcome of every task so far; one that is not finished or not started is out of time."""
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
    """Processes messages in parallel.

    Attributes
    ----------
    read:
        Reads the tasks of a message's body.
    process:
        Processes one task.
    workers:
        Threads that process messages; codecs and the network release the GIL.
    answerers:
        Threads that return messages to their queue or send dead letters, so that hanging work cannot block them.
    max_receives:
        The queue's maxReceiveCount: at that receive, an unfinished task becomes a dead letter with its reason.
    max_attempts:
        The same, after this many receives that began the task; a receive that ends with NotBegun did not begin it.
    set_visibility_timeout:
        Makes a message, by its receipt handle, visible again after some seconds.
    report:
        Called with every attempt, the time its message was sent (seconds since the epoch), and whether it was the last.
    """

    read: Callable[[str], Sequence[TaskT]]
    process: Process[TaskT, OutcomeT]
    dead_letters: DeadLetters
    workers: Executor
    answerers: Executor
    max_receives: int
    max_attempts: int
    set_visibility_timeout: Callable[[str, float], None]
    report: Callable[[Attempt[TaskT, OutcomeT], float, bool], None]

    def message(self, body: str, *, is_first: bool = True) -> ReceivedMessage[TaskT, OutcomeT]:
        """Read a message's body into tasks."""
        return ReceivedMessage(self.read(body), self.process, is_first)

    async def take(self, record: SQSRecord, deadline: Deadline) -> None:
        """Process one message.

        Raises
        ------
        TransientFault
            The message must stay in its queue. It becomes visible again later.
        """
        came_with = from_lambda(record.raw_event)
        redriven = is_redriven(came_with.attributes)
        receives = int(record.attributes.approximate_receive_count)
        message = self.message(record.body, is_first=receives == 1 and not redriven)

        def work_on_message() -> None:
            with working_on(came_with):
                message.work(deadline, redriven=redriven)

        work = asyncio.get_running_loop().run_in_executor(self.workers, work_on_message)
        # Not wait_for, which would cancel: a thread cannot be cancelled. What it still does can safely be repeated.
        await asyncio.wait([work], timeout=max(deadline.at - time() - _SECONDS_TO_ANSWER, 0))

        sent = int(record.attributes.sent_timestamp) / 1000
        attempts = message.attempts()
        faults = [attempt.outcome for attempt in attempts if isinstance(attempt.outcome, TransientFault)]
        is_last = bool(faults) and all(self._is_last(fault, receives) for fault in faults)
        for attempt in attempts:
            task, outcome = attempt.task, attempt.outcome
            if isinstance(outcome, TransientFault) and is_last:
                await self._answer(deadline, self._send_dead_letter, came_with, task, outcome)
            self.report(attempt, sent, is_last)
        if faults and not is_last:
            wait = max(_wait(fault, receives) for fault in faults)
            await self._answer(deadline, self.set_visibility_timeout, record.receipt_handle, wait)
            raise faults[0]

    def _send_dead_letter(self, came_with: CameWith, task: TaskT, fault: TransientFault) -> None:
        with working_on(came_with):
            self.dead_letters.send(task.body, task.task_id, fault)

    def _is_last(self, fault: TransientFault, receives: int) -> bool:
        if receives >= self.max_receives:
            return True
        if isinstance(fault, NotBegun) or fault.receives_not_counted is None:
            return False
        return receives - fault.receives_not_counted >= self.max_attempts

    async def _answer(self, deadline: Deadline, call: Callable[..., None], *arguments: object) -> None:
        """Make a call that the answer depends on. Raises OutOfTime if it takes longer than Lambda allows."""
        made = asyncio.get_running_loop().run_in_executor(self.answerers, call, *arguments)
        done, _ = await asyncio.wait([made], timeout=max(deadline.at - time() - _SECONDS_TO_RETURN, 0))
        if not done:
            raise OutOfTime("SQS did not answer before the function had to.")
        try:
            await made
        except TransientFault as fault:  # the message waits for its visibility timeout: log why
            logger.warning("Not answered: %s", fault)
            raise


def _wait(fault: TransientFault, receives: int) -> float:
    """Return the seconds to wait before the next attempt at a task."""
    if isinstance(fault, NotBegun):  # nothing failed, and another function may have time for it now
        return backoff(1, base=FIRST_RETRY_SECONDS, longest=LONGEST_RETRY_SECONDS)
    wait = backoff(receives, base=FIRST_RETRY_SECONDS, longest=LONGEST_RETRY_SECONDS)
    return fault.retry_after + wait / 10 if isinstance(fault, InProgressElsewhere) else wait
