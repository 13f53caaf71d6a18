"""Send messages to an SQS queue, ten at a time, until each one is accepted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from time import sleep
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from darkroom.aws_faults import aws_faults_as_transient, error_code
from darkroom.came_with import size_of
from darkroom.errors import ServiceUnavailable
from darkroom.retries import backoff

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html
_ENTRIES_PER_CALL = 10
# All messages of one call together: a little under the limit of 1 MiB.
_BYTES_PER_CALL = 1_000_000
# SQS's errors for a whole call when one of its messages is invalid.
_MESSAGE_FAULTS = {
    "AWS.SimpleQueueService.BatchRequestTooLong",
    "BatchRequestTooLong",
    "InvalidMessageContents",
    "InvalidParameterValue",
}


class NotAccepted(ServiceUnavailable):
    """SQS kept refusing some messages.

    Parameters
    ----------
    refused:
        The body and SQS's reason for each refused message.
    """

    def __init__(self, refused: list[tuple[str, str]]) -> None:
        super().__init__(f"SQS refused {len(refused)} message(s), the first because: {refused[0][1]}")
        self.refused = refused


@dataclass(frozen=True)
class OutgoingMessage:
    """A message to send: its body, its message attributes in SQS's format, and what else SendMessage takes."""

    body: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Return the bytes that SQS counts: the body, and each attribute's name, type and value."""
        return len(self.body.encode()) + size_of(self.attributes)


@dataclass(frozen=True)
class PlainTask:
    """A request to render an object of the uploads bucket, as the queue carries it.

    The same ``task_id`` is never done twice. Without ``version_id`` the object's newest version is rendered.
    """

    task_id: str
    bucket: str
    key: str
    version_id: str | None = None


def submit_tasks(sqs: SQSClient, queue_url: str, tasks: Iterable[PlainTask]) -> int:
    """Send image tasks to their queue; returns how many. Raises as `send_all` does."""
    bodies = (json.dumps({k: v for k, v in asdict(task).items() if v is not None}) for task in tasks)
    return send_all(sqs, queue_url, bodies)


def send_all(
    sqs: SQSClient,
    queue_url: str,
    bodies: Iterable[str],
    *,
    attempts: int = 5,
) -> int:
    """Send every body, in calls of at most ten, and send again the entries that SQS refused inside a 200.

    Parameters
    ----------
    bodies:
        Message bodies; read while they are sent, so a generator does not have to fit into memory.
    attempts:
        How often one message is sent at most.

    Returns
    -------
    int
        How many messages were accepted.

    Raises
    ------
    NotAccepted
        Some messages were refused at every attempt, or because they are invalid. Those before them are sent.
    ServiceUnavailable
        A whole call failed. The messages of earlier calls are sent.
    """
    sent = 0
    for batch in _batches(map(OutgoingMessage, bodies)):
        refused = _send_batch(sqs, queue_url, batch, attempts)
        if refused:
            raise NotAccepted([(message.body, reason) for message, reason in refused])
        sent += len(batch)
    return sent


def offer_all(sqs: SQSClient, queue_url: str, bodies: Iterable[str], *, attempts: int = 5) -> list[tuple[str, str]]:
    """Send every body as `send_all` does, but continue after those that SQS refuses because they are invalid.

    Returns
    -------
    list
        The body and SQS's reason for each of these.

    Raises
    ------
    NotAccepted, ServiceUnavailable
        SQS kept failing for another reason.
    """
    refused = offer_messages(sqs, queue_url, map(OutgoingMessage, bodies), attempts=attempts)
    return [(message.body, reason) for message, reason in refused]


def offer_messages(
    sqs: SQSClient, queue_url: str, messages: Iterable[OutgoingMessage], *, attempts: int = 5
) -> list[tuple[OutgoingMessage, str]]:
    """Send messages with their attributes, as `offer_all` sends bodies; returns and raises as it does."""
    return [refused for batch in _batches(messages) for refused in _offer_batch(sqs, queue_url, batch, attempts)]


def _offer_batch(
    sqs: SQSClient, queue_url: str, batch: list[OutgoingMessage], attempts: int
) -> list[tuple[OutgoingMessage, str]]:
    """Send the messages of one call; each on its own if SQS refuses the whole call because of one."""
    try:
        return _send_batch(sqs, queue_url, batch, attempts)
    except ServiceUnavailable as fault:
        cause = fault.__cause__
        if not (isinstance(cause, ClientError) and error_code(cause) in _MESSAGE_FAULTS):
            raise
        if len(batch) == 1:
            return [(batch[0], str(cause))]
    return [refused for message in batch for refused in _offer_batch(sqs, queue_url, [message], attempts)]


def _batches(messages: Iterable[OutgoingMessage]) -> Iterator[list[OutgoingMessage]]:
    batch: list[OutgoingMessage] = []
    size = 0
    for message in messages:
        length = message.size
        if batch and (len(batch) == _ENTRIES_PER_CALL or size + length > _BYTES_PER_CALL):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += length
    if batch:
        yield batch


def _send_batch(
    sqs: SQSClient, queue_url: str, batch: list[OutgoingMessage], attempts: int
) -> list[tuple[OutgoingMessage, str]]:
    """Send the messages of one call; returns the invalid ones that SQS refused. Raises NotAccepted for the rest."""
    waiting = {str(number): message for number, message in enumerate(batch)}
    faulty: list[tuple[OutgoingMessage, str]] = []
    for attempt in range(1, attempts + 1):
        with aws_faults_as_transient("send messages"):
            entries = [_entry(id_, message) for id_, message in waiting.items()]
            failed = sqs.send_message_batch(QueueUrl=queue_url, Entries=entries).get("Failed", [])
        reasons = {f["Id"]: (waiting[f["Id"]], f"{f['Code']}: {f.get('Message', '')}") for f in failed}
        faulty += [reasons[f["Id"]] for f in failed if f["SenderFault"]]
        later = [f["Id"] for f in failed if not f["SenderFault"]]
        if not later:
            break
        if attempt == attempts:
            raise NotAccepted([(message.body, reason) for message, reason in map(reasons.__getitem__, later)])
        waiting = {id_: waiting[id_] for id_ in later}
        sleep(backoff(attempt, base=0.1, longest=5))
    return faulty


def _entry(id_: str, message: OutgoingMessage) -> SendMessageBatchRequestEntryTypeDef:
    entry: SendMessageBatchRequestEntryTypeDef = {"Id": id_, "MessageBody": message.body}
    if message.attributes:
        entry["MessageAttributes"] = message.attributes
    entry.update(message.parameters)  # type: ignore[typeddict-item] # of SendMessage, which the entries share
    return entry
