"""`make redrive`: dead letters go back to the queue they came from.

A message is sent first, and deleted from the dead-letter queue only after SQS has taken it: whatever happens in
between, it stands in one of the two. It may stand in both, and then comes twice: tasks and orders have ids by which the
functions do them once, and readers of results know a `task_id` that they have seen.

It takes two visits. The first finds what is to be moved, by message id; the second moves that and nothing else, so
what fails once more while it runs, and comes back as another message, is not sent round in a circle.
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
# Of the 120,000 messages that a queue lets be hidden at a time.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html
MOST_AT_ONCE = 100_000
# How fast a queue is looked through at least; it decides how long messages stay hidden if the command is killed.
_MESSAGES_PER_SECOND = 50
_SECONDS_TO_SPARE = 30
_LONGEST_HIDDEN = 43_200
# Somebody else may be looking at a message, such as `make status`, which hides it for ten seconds.
_PATIENCE, _WAIT = 3, 5


@dataclass(frozen=True)
class HandOver:
    """What is to be sent, and where."""

    queue_url: str
    message: OutgoingMessage


class Judge(Protocol):
    """Decides on a dead letter."""

    def __call__(self, letter: DeadLetter, /) -> HandOver | str:
        """Return where it goes, or why it must stay."""


def back_to(queue_url: str, largest: int = LARGEST_MESSAGE) -> Judge:
    """Judge that every dead letter goes back unchanged, with the mark by which the functions know it.

    Parameters
    ----------
    largest:
        The most bytes that the queue accepts. A message without room for the mark must stay: without it, an image task
        would count as done.
    """

    def judged(letter: DeadLetter) -> HandOver | str:
        came = came_with.producers(letter.came.attributes)
        attributes = came_with.given_back(came, letter.error_code)
        message = OutgoingMessage(letter.body, attributes, letter.came.system_parameters())
        if message.size > largest:
            return f"With the mark of a redrive it has {message.size:,} bytes, and the queue takes {largest:,}."
        return HandOver(queue_url, message)

    return judged


@dataclass
class Group:
    """The dead letters of one error code: how many go, were not asked for, or must stay; and one of the reasons."""

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
    """What the second scan did; what SQS refused is counted by its reason."""

    moved: int = 0
    refused: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    copies: int = 0


@dataclass(frozen=True)
class Pace:
    """So many messages a second, by a clock; ``sleep`` may end early, when a person ends the run."""

    rate: float
    clock: Callable[[], float]
    sleep: Callable[[float], object]

    def keep(self, started: float, moved: int) -> None:
        """Wait until as many messages as were moved since ``started`` may have been."""
        early = started + moved / self.rate - self.clock()
        if early > 0:
            self.sleep(early)


@dataclass(frozen=True)
class Redrive:
    """A dead-letter queue, and what is asked of it.

    Attributes
    ----------
    code:
        Only the dead letters of this error code; `NO_CODE` for those that SQS moved itself; empty for all.
    limit:
        The most to move; 0 for all.
    is_over:
        Asked between batches, so that a person can end the run.
    progress:
        Told how many messages were seen, or moved.
    """

    sqs: SQSClient
    queue_url: str
    judge: Judge
    code: str = ""
    limit: int = 0
    is_over: Callable[[], bool] = lambda: False
    progress: Callable[[int], object] = lambda _: None

    def count(self) -> int:
        """About how many dead letters stand there."""
        return count_waiting(self.sqs, self.queue_url)

    def plan(self) -> Plan:
        """Look at what stands there, and change nothing. Raises ClientError, BotoCoreError."""
        count = self.count()
        # SQS counts approximately; but messages that arrive faster than they are read must not keep it running forever.
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
        """Move what is planned, and keep in ``done`` what was moved, also for the case that it cannot go on.

        Raises
        ------
        ServiceUnavailable, ClientError, BotoCoreError
            SQS does not answer, or refuses.
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
    """About how many messages of a queue can be received."""
    name: Final = "ApproximateNumberOfMessages"
    return int(sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=[name])["Attributes"][name])


def _hidden_for(count: int) -> int:
    return min(count // _MESSAGES_PER_SECOND + _SECONDS_TO_SPARE, _LONGEST_HIDDEN)
