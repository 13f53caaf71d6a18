"""Read RabbitMQ and invoke the function, as Lambda's event source mapping for Amazon MQ does.

Each queue has one consumer, which hands one batch at a time to the function. If the function fails, the whole batch is
delivered again. https://docs.aws.amazon.com/lambda/latest/dg/with-mq.html

The program's arguments are a file to create once it reads, the function's name and the queues. The broker's URL and the
settings for AWS have keys in them and come from the environment: every user of a machine sees arguments.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

import boto3
import pika
import psutil
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pika.exceptions import AMQPError

from local.config import PROJECT, LocalConfig
from local.emulators.processes import Server
from operations.rabbitmq_queues import QUEUES, connected, connection_parameters

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from pika.spec import Basic, BasicProperties

# Lambda's defaults, which the template keeps.
BATCH_SIZE = 100
WINDOW_SECONDS = 0.5
PAYLOAD_LIMIT = 6 * 1024 * 1024
# Between attempts; Lambda's own pauses are not documented.
PAUSES = (0.5, 1.0, 2.0, 5.0)
_TICK_SECONDS = 0.1
# Longer than a function's timeout: nothing answers the broker's heartbeats meanwhile.
_HEARTBEAT_SECONDS = 180
_INVOCATION_SECONDS = 90
_CYCLE_OF_CALENDAR = 146_097 * 86_400  # 400 years

_URL = "DARKROOM_RABBITMQ_URL"

_log = logging.getLogger("mq-poller")


class InvocationFailed(Exception):
    """The function failed, or did not answer."""


class Channel(Protocol):
    """The methods of a pika channel that the poller uses."""

    def basic_qos(self, *, prefetch_count: int) -> None:
        """Limit what the broker sends ahead."""

    def consume(self, queue: str, *, inactivity_timeout: float) -> Iterable[tuple[Any, Any, Any]]:
        """Yield each message's method, properties and body; three times None after so many idle seconds."""

    def basic_ack(self, delivery_tag: int, *, multiple: bool) -> None:
        """Take messages off the queue."""

    def basic_nack(self, delivery_tag: int, *, multiple: bool, requeue: bool) -> None:
        """Return messages to the queue, or move them to the dead-letter queue."""


@dataclass(frozen=True)
class Delivery:
    """A message in the function's event format, and its delivery tag."""

    tag: int
    record: str


@dataclass(frozen=True)
class Poller:
    """Reads one queue.

    Attributes
    ----------
    event_source_arn, virtual_host, queue:
        The source of the messages, as in the event.
    invoke:
        Invokes the function with an event and waits for it; raises InvocationFailed.
    reads:
        Set when the broker starts to deliver.
    stopping:
        Stops the poller; unacknowledged messages are delivered again.
    """

    event_source_arn: str
    virtual_host: str
    queue: str
    invoke: Callable[[str], None]
    reads: Event
    stopping: Event
    batch_size: int = BATCH_SIZE
    window: float = WINDOW_SECONDS
    payload_limit: int = PAYLOAD_LIMIT
    pauses: Sequence[float] = PAUSES

    def run(self, parameters: pika.ConnectionParameters) -> None:
        """Read until stopped, and reconnect when the broker restarts."""
        attempts = 0
        while not self.stopping.is_set():
            try:
                with connected(parameters) as channel:
                    attempts = 0
                    self.read(channel)
            except (AMQPError, OSError) as error:
                _log.warning("%s: no broker: %r", self.queue, error)
            self._pause(attempts)
            attempts += 1

    def read(self, channel: Channel) -> None:
        """Read until stopped or until the broker closes the connection."""
        channel.basic_qos(prefetch_count=self.batch_size)
        envelope = len(self._event([]).encode())
        failures = 0
        for batch in batches(
            self._deliveries(channel, self.payload_limit - envelope),
            size=self.batch_size,
            window=self.window,
            limit=self.payload_limit - envelope,
        ):
            start = monotonic()
            last = batch[-1].tag  # acknowledges every earlier tag as well
            try:
                self.invoke(self._event(batch))
            except InvocationFailed as error:
                _log.warning("%s: %d messages, to be delivered again: %s", self.queue, len(batch), error)
                self._pause(failures)
                failures += 1
                channel.basic_nack(last, multiple=True, requeue=True)
            else:
                failures = 0
                channel.basic_ack(last, multiple=True)
                milliseconds = 1000 * (monotonic() - start)
                _log.info("%s: %d messages, acknowledged after %.0f ms", self.queue, len(batch), milliseconds)

    def _deliveries(self, channel: Channel, limit: int) -> Iterator[Delivery | None]:
        for method, properties, body in channel.consume(self.queue, inactivity_timeout=_TICK_SECONDS):
            self.reads.set()
            if self.stopping.is_set():
                return
            if method is None:
                yield None
                continue
            delivery = Delivery(method.delivery_tag, json.dumps(record(method, properties, body)))
            if len(delivery.record) > limit:
                # Lambda drops it, and does not document how; here it goes to the dead-letter queue.
                _log.warning("%s: dropped a message of %d bytes", self.queue, len(body))
                channel.basic_nack(delivery.tag, multiple=False, requeue=False)
                continue
            yield delivery

    def _event(self, batch: Sequence[Delivery]) -> str:
        source = json.dumps({"eventSource": "aws:rmq", "eventSourceArn": self.event_source_arn})
        queue = json.dumps(f"{self.queue}::{self.virtual_host}")
        records = ",".join(delivery.record for delivery in batch)
        return f'{source[:-1]}, "rmqMessagesByQueue": {{{queue}: [{records}]}}}}'

    def _pause(self, times: int) -> None:
        self.stopping.wait(self.pauses[min(times, len(self.pauses) - 1)])


def batches(
    deliveries: Iterable[Delivery | None],
    *,
    size: int,
    window: float,
    limit: int,
    clock: Callable[[], float] = monotonic,
) -> Iterator[list[Delivery]]:
    """Collect deliveries until the batch is full, its window is over, or the next delivery does not fit.

    Parameters
    ----------
    deliveries:
        The messages; None each time that no message arrived for a while.
    window:
        Seconds from a batch's first message to its end.
    limit:
        Bytes of a batch's records, separators included.
    """
    batch: list[Delivery] = []
    length, end = 0, 0.0
    for delivery in deliveries:
        if delivery is not None:
            if batch and length + len(delivery.record) > limit:
                yield batch
                batch, length = [], 0
            if not batch:
                end = clock() + window
            batch.append(delivery)
            length += len(delivery.record) + len(",")
        if batch and (len(batch) == size or clock() >= end):
            yield batch
            batch, length = [], 0


def record(method: Basic.Deliver, properties: BasicProperties, body: bytes) -> dict[str, Any]:
    """Describe a message as Lambda does: absent properties are null."""
    headers, timestamp = properties.headers, properties.timestamp
    return {
        "basicProperties": {
            "contentType": properties.content_type,
            "contentEncoding": properties.content_encoding,
            "headers": None if headers is None else {name: _header(value) for name, value in headers.items()},
            "deliveryMode": properties.delivery_mode,
            "priority": properties.priority,
            "correlationId": properties.correlation_id,
            "replyTo": properties.reply_to,
            "expiration": properties.expiration,
            "messageId": properties.message_id,
            "timestamp": None if timestamp is None else _date(timestamp),
            "type": properties.type,
            "userId": properties.user_id,
            "appId": properties.app_id,
            "clusterId": properties.cluster_id,
            "bodySize": len(body),
        },
        "redelivered": method.redelivered,
        "data": base64.b64encode(body).decode(),
    }


def _header(value: Any) -> Any:
    match value:
        case str() | bytes():
            octets = value.encode() if isinstance(value, str) else value
            # Lambda's poller is written in Java, whose bytes are signed; its documentation shows ASCII only.
            return {"bytes": [octet - 256 if octet > 127 else octet for octet in octets]}
        case datetime():
            return _date(int(value.timestamp()))
        case Decimal():
            return float(value)
        case float() if not math.isfinite(value):
            return None  # not expressible in JSON
        case dict():
            return {name: _header(inner) for name, inner in value.items()}
        case list():
            return [_header(inner) for inner in value]
        case _:
            return value


def _date(timestamp: int) -> str:
    """Write seconds as Java does: "Jan 1, 1970, 12:33:41 AM".

    A producer that wrongly sends milliseconds gives the year 50000, which Python's dates do not support.
    """
    cycles, seconds = divmod(timestamp, _CYCLE_OF_CALENDAR)
    date = datetime.fromtimestamp(seconds, UTC)
    return f"{date:%b} {date.day}, {date.year + 400 * cycles}, {date.hour % 12 or 12}:{date:%M:%S %p}"


def invoking(client: LambdaClient, function_name: str) -> Callable[[str], None]:
    """Return a function that invokes a deployed Lambda function with an event."""

    def invoke(event: str) -> None:
        try:
            answer = client.invoke(FunctionName=function_name, Payload=event)
            said = answer["Payload"].read().decode(errors="replace")
        except (BotoCoreError, ClientError) as error:
            raise InvocationFailed(str(error)) from error
        if "FunctionError" in answer:
            raise InvocationFailed(said)

    return invoke


def running(config: LocalConfig) -> psutil.Process | None:
    """Find the poller of this stack, or None if it is not running."""
    return _server(config).running()


def start(config: LocalConfig, function_name: str, region: str, queues: Sequence[str] = QUEUES) -> None:
    """Start the poller and wait until it reads every queue.

    Raises
    ------
    LaptopError
        It does not start.
    """
    _clean_up(config)  # after one that was killed
    environment = {
        "PYTHONPATH": str(PROJECT),
        "PYTHONSAFEPATH": "1",  # or modules in this folder could shadow others with the same name
        _URL: config.rabbitmq_url,
        "AWS_ENDPOINT_URL": config.endpoint_url,
        "AWS_ACCESS_KEY_ID": config.keys.aws_access_key_id,
        "AWS_SECRET_ACCESS_KEY": config.keys.aws_secret_access_key,
        "AWS_DEFAULT_REGION": region,
        "AWS_CONFIG_FILE": "/dev/null",  # ignores the user's configuration
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }
    arguments = [str(_ready_file(config)), function_name, *queues]
    _server(config).start(Path(sys.executable), arguments=arguments, environment=environment, folder=config.folder)


def stop(config: LocalConfig) -> bool:
    """Stop the poller; returns whether it was running."""
    return _server(config).stop()


def _server(config: LocalConfig) -> Server:
    return Server(
        name="The poller of RabbitMQ",
        script=Path(__file__).resolve(),
        pid_file=config.folder / "mq-poller.pid",
        log=config.logs / "mq-poller.log",
        health_url=_ready_file(config).as_uri(),
        clean_up=lambda: _clean_up(config),
    )


def _ready_file(config: LocalConfig) -> Path:
    return config.folder / "mq-poller.ready"


def _clean_up(config: LocalConfig) -> None:
    for name in ("mq-poller.pid", "mq-poller.ready"):
        (config.folder / name).unlink(missing_ok=True)


def main(ready_file: str, function_name: str, *queues: str) -> int:
    """Read the queues until a signal says stop; returns an exit code."""
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(asctime)s %(message)s")
    _log.setLevel(logging.INFO)
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    parameters = connection_parameters(os.environ[_URL])
    parameters.heartbeat = _HEARTBEAT_SECONDS
    config = Config(read_timeout=_INVOCATION_SECONDS, retries={"total_max_attempts": 1})
    client = boto3.client("lambda", config=config)
    arn = f"arn:aws:mq:{client.meta.region_name}:000000000000:broker:laptop:b-00000000-0000-4000-8000-000000000000"
    invoke = invoking(client, function_name)
    pollers = [Poller(arn, parameters.virtual_host, queue, invoke, Event(), stopping) for queue in queues]
    threads = [Thread(target=poller.run, args=(parameters,)) for poller in pollers]
    for thread in threads:
        thread.start()
    ready = Path(ready_file)
    while not stopping.wait(_TICK_SECONDS):
        if not all(thread.is_alive() for thread in threads):
            stopping.set()
            return 1  # the thread's traceback says why
        if not ready.exists() and all(poller.reads.is_set() for poller in pollers):
            ready.touch()
    for thread in threads:
        thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
