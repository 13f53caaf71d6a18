"""`make redrive`: move dead letters back to their source queue.

A message is sent first, and deleted from the dead-letter queue only after SQS has accepted it. If anything fails in
between, it is in at least one of the two. If it is in both, it arrives twice: the functions process each task and order
id once, and readers of results recognise a `task_id` that they have seen.

A redrive scans the queue twice. The first scan finds the messages to move, by message id. The second moves those and
no others, so a message that fails again during the redrive is not moved a second time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from darkroom import came_with
from darkroom.sending import OutgoingMessage, offer_messages

from operations.dead_letters import DeadLetter, QueueScan

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

NO_CODE = "none"
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
LARGEST_MESSAGE = 1_048_576
# A queue allows 120,000 messages in flight.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html
MOST_AT_ONCE = 100_000
# The slowest scan; it decides how long messages stay hidden if the command is killed.
_MESSAGES_PER_SECOND = 50
_SECONDS_TO_SPARE = 30
_LONGEST_HIDDEN = 43_200
# Another reader may hide a message: `make status` does so for ten seconds.
_PATIENCE, _WAIT = 3, 5


@dataclass(frozen=True)
class HandOver:
    """What to send, and where."""

    queue_url: str
    message: OutgoingMessage


class Judge(Protocol):
    """Decides on a dead letter."""

    def __call__(self, letter: DeadLetter, /) -> HandOver | str:
        """Return what to send where, or why the message must stay."""


def back_to(queue_url: str, largest: int = LARGEST_MESSAGE, *, mark_is_needed: bool = True) -> Judge:
    """Move every dead letter back unchanged, with the attribute by which the functions recognise a redrive.

    Parameters
    ----------
    largest:
        The most bytes that the queue accepts.
    mark_is_needed:
        Whether a message without room for the attribute must stay: without it, an image task would count as done.
    """

    def judged(letter: DeadLetter) -> HandOver | str:
        came = came_with.producers(letter.came.attributes)
        system = letter.came.system_parameters()
        marked = OutgoingMessage(letter.body, came_with.given_back(came, letter.error_code), system)
        message = marked if mark_is_needed or marked.size <= largest else OutgoingMessage(letter.body, came, system)
        if message.size > largest:
            return f"With the attribute of a redrive it has {marked.size:,} bytes, and the queue accepts {largest:,}."
        return HandOver(queue_url, message)

    return judged


@dataclass
class Group:
    """The dead letters of one error code: how many go, were not requested, or must stay; and one of the reasons."""

    reason: str
    go: int = 0
    not_asked_for: int = 0
    must_stay: int = 0
    must_stay_because: str = ""


@dataclass
class Plan:
    """What the first scan found: groups by error code, and the ids of the messages to move."""

    groups: dict[str, Group] = field(default_factory=dict)
    message_ids: set[str] = field(default_factory=set)
    seen: int = 0
    is_complete: bool = True


@dataclass
class Moved:
    """What the second scan did. Messages that SQS refused are counted by reason."""

    moved: int = 0
    refused: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    copies: int = 0


@dataclass(frozen=True)
class Pace:
    """Limits the messages per second. ``sleep`` may return early when the user ends the run."""

    rate: float
    clock: Callable[[], float]
    sleep: Callable[[float], object]

    def keep(self, started: float, moved: int) -> None:
        """Wait until the rate permits the number of messages moved since ``started``."""
        early = started + moved / self.rate - self.clock()
        if early > 0:
            self.sleep(early)


@dataclass(frozen=True)
class Redrive:
    """A dead-letter queue, and which of its messages to move.

    Attributes
    ----------
    code:
        Only the dead letters of this error code; `NO_CODE` for those that SQS moved itself; empty for all.
    limit:
        The most to move; 0 for all.
    is_over:
        Called between batches, so that the user can end the run.
    progress:
        Called with the number of messages seen, or moved.
    """

    sqs: SQSClient
    queue_url: str
    judge: Judge
    code: str = ""
    limit: int = 0
    is_over: Callable[[], bool] = lambda: False
    progress: Callable[[int], object] = lambda _: None

    def count(self) -> int:
        """The approximate number of dead letters."""
        return count_waiting(self.sqs, self.queue_url)

    def plan(self) -> Plan:
        """Read the dead letters without a change. Raises ClientError, BotoCoreError."""
        count = self.count()
        # SQS counts approximately. Messages that arrive faster than they are read must not keep the scan running.
        most = min(2 * count + 10, MOST_AT_ONCE)
        plan = Plan()
        with QueueScan(self.sqs, self.queue_url, _hidden_for(count), is_over=self.is_over) as scan:
            for letters in scan.letters():
                for letter in letters:
                    self._add(letter, plan)
                self.progress(plan.seen)
                if plan.seen >= most:
                    plan.is_complete = False
                    break
        return plan

    def _add(self, letter: DeadLetter, plan: Plan) -> None:
        plan.seen += 1
        group = plan.groups.setdefault(letter.error_code, Group(letter.reason))
        if self.code not in ("", letter.error_code or NO_CODE) or 0 < self.limit <= len(plan.message_ids):
            group.not_asked_for += 1
        elif isinstance(judged := self.judge(letter), str):
            group.must_stay += 1
            group.must_stay_because = judged
        else:
            group.go += 1
            plan.message_ids.add(letter.message_id)

    def move(self, plan: Plan, pace: Pace, done: Moved) -> None:
        """Move the planned messages, and record in ``done`` what was moved, even if the run fails.

        Raises
        ------
        ServiceUnavailable, ClientError, BotoCoreError
            SQS does not answer, or refuses the request.
        """
        left = set(plan.message_ids)
        started = pace.clock()
        seconds = len(left) / pace.rate + plan.seen / _MESSAGES_PER_SECOND + _SECONDS_TO_SPARE
        hidden_for = min(int(seconds), _LONGEST_HIDDEN)
        with QueueScan(
            self.sqs, self.queue_url, hidden_for, patience=_PATIENCE, wait=_WAIT, is_over=self.is_over
        ) as scan:
            for letters in scan.letters() if left else ():
                planned = [letter for letter in letters if letter.message_id in left]
                self._move(planned, scan, done)
                left -= {letter.message_id for letter in planned}
                self.progress(done.moved)
                if not left:
                    break
                pace.keep(started, done.moved)

    def _move(self, letters: list[DeadLetter], scan: QueueScan, done: Moved) -> None:
        by_queue: dict[str, list[tuple[DeadLetter, OutgoingMessage]]] = defaultdict(list)
        for letter in letters:
            judged = self.judge(letter)
            if isinstance(judged, HandOver):
                by_queue[judged.queue_url].append((letter, judged.message))
        for queue_url, coming in by_queue.items():
            refused = offer_messages(self.sqs, queue_url, [message for _, message in coming])
            for _, reason in refused:
                done.refused[reason] += 1
            kept = [id(message) for message, _ in refused]
            taken = [letter.message_id for letter, message in coming if id(message) not in kept]
            done.moved += len(taken)
            done.copies += len(taken)  # until they are deleted
            done.copies += scan.delete(taken) - len(taken)


def count_waiting(sqs: SQSClient, queue_url: str) -> int:
    """The approximate number of messages that can be received."""
    name: Final = "ApproximateNumberOfMessages"
    return int(sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=[name])["Attributes"][name])


def _hidden_for(count: int) -> int:
    return min(count // _MESSAGES_PER_SECOND + _SECONDS_TO_SPARE, _LONGEST_HIDDEN)
