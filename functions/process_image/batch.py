"""One SQS message among the others of its batch: it is done, comes back later, or is set aside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING

from darkroom.dead_letters import ERROR_CODE_ATTRIBUTE
from darkroom.errors import InProgressElsewhere, OutOfTime, TransientFault, UnexpectedError
from darkroom.retries import backoff

from functions.process_image.messages import ImageTask, Unreadable, read_body
from functions.process_image.process import Deadline, Flow, Outcome, process

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

# Kept back from Lambda's timeout for giving unfinished messages back.
_SECONDS_TO_ANSWER = 3
_FIRST_RETRY_SECONDS = 10
_LONGEST_RETRY_SECONDS = 900


@dataclass(frozen=True)
class Attempt:
    """One task as this invocation left it. ``started`` and ``ended`` are seconds since the epoch."""

    task: ImageTask | Unreadable
    started: float
    ended: float
    outcome: Outcome | TransientFault


@dataclass
class Message:
    """One message: the tasks still to do, and those that were attempted. Filled by one thread, read by another."""

    waiting: list[ImageTask | Unreadable]
    attempts: list[Attempt] = field(default_factory=list)

    @classmethod
    def of(cls, body: str) -> Message:
        """Read a message's body."""
        return cls(waiting=read_body(body))

    def work(self, flow: Flow, deadline: Deadline, *, redriven: bool) -> None:
        """Attempt every task, whatever becomes of the others."""
        while self.waiting:
            task, started = self.waiting[0], time()
            outcome: Outcome | TransientFault
            try:
                outcome = process(task, flow, deadline, redriven=redriven)
            except TransientFault as fault:
                outcome = fault
            except Exception as error:  # noqa: BLE001 # a defect of ours must not cost the message its reason
                outcome = UnexpectedError(f"{type(error).__name__}: {error}")
                outcome.__cause__ = error
            self.attempts.append(Attempt(task, started, time(), outcome))
            self.waiting.pop(0)

    def unfinished(self) -> list[tuple[ImageTask | Unreadable, TransientFault]]:
        """Every task that has to be tried again, and why."""
        failed = [(a.task, a.outcome) for a in self.attempts if isinstance(a.outcome, TransientFault)]
        return failed + [(task, OutOfTime("The function had to answer first.")) for task in self.waiting]


@dataclass(frozen=True)
class MessageHandler:
    """Works on messages side by side.

    Attributes
    ----------
    pool:
        Threads that work; libvips and the network leave the interpreter free.
    max_receives:
        The queue's maxReceiveCount: at that receive an unfinished task is set aside with its reason.
    show_again_in:
        Makes a message, by its receipt handle, visible again after some seconds.
    report:
        Told of every attempt, of when its message was sent (seconds since the epoch), and whether it was the last.
    """

    flow: Flow
    pool: Executor
    max_receives: int
    show_again_in: Callable[[str, float], None]
    report: Callable[[Attempt, float, bool], None]

    async def take(self, record: SQSRecord, deadline: Deadline) -> None:
        """Work on one message.

        Raises
        ------
        TransientFault
            The message must stay in its queue. It becomes visible again after a while.
        """
        message = Message.of(record.body)
        redriven = ERROR_CODE_ATTRIBUTE in record.message_attributes
        run = asyncio.get_running_loop().run_in_executor
        work = run(self.pool, lambda: message.work(self.flow, deadline, redriven=redriven))
        # Not wait_for, which would cancel: a thread cannot be. What it still does is safe to be done again.
        await asyncio.wait([work], timeout=max(deadline.at - time() - _SECONDS_TO_ANSWER, 0))
        unfinished = message.unfinished()
        receives = int(record.attributes.approximate_receive_count)
        is_last = receives >= self.max_receives
        if is_last:
            for task, fault in unfinished:
                await run(self.pool, self.flow.dead_letters.set_aside, task.body, task.task_id, fault)
        sent = int(record.attributes.sent_timestamp) / 1000
        for attempt in list(message.attempts):
            self.report(attempt, sent, is_last)
        if unfinished and not is_last:
            wait = max(_wait(fault, receives) for _, fault in unfinished)
            await run(self.pool, self.show_again_in, record.receipt_handle, wait)
            raise unfinished[0][1]


def _wait(fault: TransientFault, receives: int) -> float:
    """Seconds until a task is worth another attempt."""
    wait = backoff(receives, base=_FIRST_RETRY_SECONDS, longest=_LONGEST_RETRY_SECONDS)
    return fault.retry_after + wait / 10 if isinstance(fault, InProgressElsewhere) else wait
