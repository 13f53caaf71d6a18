"""Declare the queues that Lambda reads, on the laptop's RabbitMQ broker or on one of Amazon MQ.

CloudFormation creates a broker but has no resource for its queues. Somebody who can reach the broker declares them
once, over AMQP.
"""

from __future__ import annotations

import argparse
import getpass
import ipaddress
import json
import logging
import os
import ssl
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

import pika
from pika.exceptions import AMQPError, ChannelClosedByBroker, ConnectionWrongStateError

from operations.errors import OperationsError
from operations.terminal import printable

if TYPE_CHECKING:
    from pika.adapters.blocking_connection import BlockingChannel
    from rich.console import Console

QUEUES = ("image-tasks", "orders")
DEAD_LETTER_EXCHANGE = "darkroom.dead-letters"
# A batch that fails counts for each of its messages, and batches fail because of an outage, not because of a message:
# the relay moves what it cannot read to the dead-letter queue. So the limit is far higher than RabbitMQ 4's 20: an
# outage or a bad release must not use it up.
DELIVERY_LIMIT = 10_000
_PRECONDITION_FAILED = 406

# pika logs every error that it also raises.
logging.getLogger("pika").setLevel(logging.CRITICAL)


def dead_letter_queue(queue: str) -> str:
    """Return the name of a queue's dead-letter queue."""
    return f"{queue}.dead-letters"


def connection_parameters(url: str) -> pika.URLParameters:
    """Parse an AMQP URL. TLS is verified, and required except on the loopback address.

    Raises
    ------
    OperationsError
        The URL is not an AMQP URL, or it would send the password over a network in clear text.
    """
    try:
        parameters = pika.URLParameters(url)
    except (ValueError, TypeError):  # its message may hold the password
        raise OperationsError("The URL is not an AMQP URL such as amqps://user@broker.example:5671") from None
    if urlsplit(url).scheme == "amqps":
        # Overrides the URL.
        parameters.ssl_options = pika.SSLOptions(ssl.create_default_context(), parameters.host)
    elif not _is_loopback(parameters.host):
        raise OperationsError(f"amqp:// would send the password to {parameters.host} in clear text. Use amqps://")
    return parameters


@contextmanager
def connected(parameters: pika.ConnectionParameters | pika.URLParameters) -> Iterator[BlockingChannel]:
    """Connect for as long as the block runs. Raises AMQPError, OSError."""
    with pika.BlockingConnection(parameters) as connection:
        try:
            channel = connection.channel()
        except ConnectionWrongStateError:  # the broker closed it at once: pika then leaves its own sockets open
            connection._cleanup()  # type: ignore[attr-defined]  # noqa: SLF001
            raise
        yield channel


@contextmanager
def open_channel(url: str) -> Iterator[BlockingChannel]:
    """Connect to a broker for as long as the block runs.

    Raises
    ------
    OperationsError
        There is no connection, or the broker refuses the request.
    """
    parameters = connection_parameters(url)
    where = f"the broker at {parameters.host}:{parameters.port}"
    try:
        with connected(parameters) as channel:
            yield channel
    except ChannelClosedByBroker as error:
        raise OperationsError(f"RabbitMQ refuses: {error.reply_text}") from error
    except (AMQPError, OSError) as error:
        raise OperationsError(f"No connection to {where}: {str(error) or repr(error)}") from error


def declare_queues(url: str, queues: Sequence[str] = QUEUES, *, delivery_limit: int = DELIVERY_LIMIT) -> None:
    """Declare each queue and its dead-letter queue: durable, and replicated if the broker is a cluster.

    An existing queue is never changed, so the command can be repeated.

    Raises
    ------
    OperationsError
        There is no connection, or a queue exists with other arguments; the message names it.
    """
    with open_channel(url) as channel:
        channel.exchange_declare(DEAD_LETTER_EXCHANGE, "direct", durable=True)
        for queue in queues:
            # The dead-letter queue comes first: a queue must not work before its dead letters have a place.
            dead_letters = dead_letter_queue(queue)
            _declare(channel, dead_letters, {"x-queue-type": "quorum"})
            channel.queue_bind(dead_letters, DEAD_LETTER_EXCHANGE, routing_key=queue)
            _declare(channel, queue, arguments_of(queue, delivery_limit))


def arguments_of(queue: str, delivery_limit: int = DELIVERY_LIMIT) -> dict[str, str | int]:
    """Return the arguments of a queue; a producer that declares it itself must give the same, or gets a 406."""
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": delivery_limit,
        "x-dead-letter-exchange": DEAD_LETTER_EXCHANGE,
        "x-dead-letter-routing-key": queue,  # replaces the producer's routing key
        # By default a dead letter is sent once, and lost if the node that sent it fails.
        # https://www.rabbitmq.com/docs/quorum-queues#dead-lettering
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command ``rabbitmq-queues``."""
    parser.add_argument(
        "--url",
        required=True,
        help="URL of the broker: amqps://user@host:5671, then /name of a virtual host. The password comes from"
        " RABBITMQ_PASSWORD, from a prompt, or from the first line of standard input",
    )
    parser.add_argument("--queues", nargs="+", default=QUEUES, help="names of the queues, if the template has others")
    parser.add_argument("--redrive", action="store_true", help="move the dead letters of these queues back")


def run(url: str, queues: Sequence[str], console: Console, *, redrive: bool) -> int:
    """Declare the queues on a broker, and redrive them if asked; returns an exit code. Raises OperationsError."""
    url = _with_password(url)
    declare_queues(url, queues)
    for queue in queues:
        console.print(f"[green]✓[/] {printable(queue)}, and {printable(dead_letter_queue(queue))}")
        if redrive:
            console.print(f"  {redrive_queue(url, queue)} messages moved back")
    console.print("A producer need not declare these queues. One that does must use the same arguments:")
    for queue in queues:
        declared = f"durable=True, arguments={json.dumps(arguments_of(queue))}"
        console.print(printable(f"channel.queue_declare({json.dumps(queue)}, {declared})"), soft_wrap=True)
    return 0


def redrive_queue(url: str, queue: str) -> int:
    """Move a queue's present dead letters back; returns how many were moved.

    A message leaves the dead-letter queue only when the broker has confirmed it on the other. After an interruption it
    may be in both; it is still processed once, by its id.

    Raises
    ------
    OperationsError
        There is no connection, or the broker does not accept a message.
    """
    with open_channel(url) as channel:
        channel.confirm_delivery()
        waiting = channel.queue_declare(dead_letter_queue(queue), passive=True).method.message_count
        for number in range(waiting):
            method, properties, body = channel.basic_get(dead_letter_queue(queue))
            if method is None or method.delivery_tag is None:
                return number
            channel.basic_publish("", queue, body or b"", properties, mandatory=True)
            channel.basic_ack(method.delivery_tag)
    return int(waiting)


def _declare(channel: BlockingChannel, queue: str, arguments: dict[str, str | int]) -> None:
    try:
        channel.queue_declare(queue, durable=True, arguments=arguments)
    except ChannelClosedByBroker as error:
        if error.reply_code != _PRECONDITION_FAILED:
            raise
        message = (
            f"Queue {queue} exists with other properties than Darkroom needs. It was not changed: {error.reply_text}."
            " Wait until it is empty, delete it, and run this again."
        )
        raise OperationsError(message) from error


def _with_password(url: str) -> str:
    """Add the password to a URL that has a user only: every user of a machine can read its command lines."""
    parts = urlsplit(url)
    if parts.scheme not in ("amqp", "amqps"):
        raise OperationsError("Where is the broker? URL=amqps://user@broker.example:5671")
    if parts.password is not None:
        if _is_loopback(parts.hostname or ""):
            return url
        raise OperationsError("Leave the password out of the URL: set RABBITMQ_PASSWORD, or enter it at the prompt.")
    if parts.username is None:
        return url
    if (password := os.environ.get("RABBITMQ_PASSWORD")) is None:
        question = f"Password of {parts.username}: "
        password = getpass.getpass(question) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
