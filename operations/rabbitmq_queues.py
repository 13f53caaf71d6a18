"""The queues of a RabbitMQ broker that Lambda reads: declare them, on the laptop's broker or on one of Amazon MQ.

A template makes the broker but nothing in it: CloudFormation has no resource for a queue of Amazon MQ. They are
declared once, over AMQP, by whoever may reach the broker.
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
from pika.exceptions import AMQPError, ChannelClosedByBroker

from operations.errors import OperationsError

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

# What goes wrong it also raises.
logging.getLogger("pika").setLevel(logging.CRITICAL)


def dead_letter_queue(queue: str) -> str:
    """Name the queue that keeps what could not be delivered."""
    return f"{queue}.dead-letters"


def connection_parameters(url: str) -> pika.URLParameters:
    """Read an AMQP URL; TLS is verified, and nothing but the loopback address does without.

    Raises
    ------
    OperationsError
        The URL is none, or the password would cross a network in clear.
    """
    try:
        parameters = pika.URLParameters(url)
    except (ValueError, TypeError):  # its message may hold the password
        raise OperationsError("The URL is not an AMQP URL such as amqps://user@broker.example:5671") from None
    if urlsplit(url).scheme == "amqps":
        # Whatever the URL says of it.
        parameters.ssl_options = pika.SSLOptions(ssl.create_default_context(), parameters.host)
    elif not _is_loopback(parameters.host):
        raise OperationsError(f"amqp:// would send the password to {parameters.host} in clear text. Use amqps://")
    return parameters


@contextmanager
def open_channel(url: str) -> Iterator[BlockingChannel]:
    """Connect to a broker for as long as the block runs.

    Raises
    ------
    OperationsError
        There is no connection, or the broker refuses what is asked of it.
    """
    parameters = connection_parameters(url)
    where = f"the broker at {parameters.host}:{parameters.port}"
    try:
        with pika.BlockingConnection(parameters) as connection:
            yield connection.channel()
    except ChannelClosedByBroker as error:
        raise OperationsError(f"RabbitMQ refuses: {error.reply_text}") from error
    except (AMQPError, OSError) as error:
        raise OperationsError(f"No connection to {where}: {str(error) or repr(error)}") from error


def declare_queues(url: str, queues: Sequence[str] = QUEUES, *, delivery_limit: int = DELIVERY_LIMIT) -> None:
    """Declare each queue and the queue for its dead letters, all of them durable and replicated where the broker is.

    A second run changes nothing, and no run changes a queue that is there.

    Raises
    ------
    OperationsError
        There is no connection, or a queue is there with other arguments; says which.
    """
    with open_channel(url) as channel:
        channel.exchange_declare(DEAD_LETTER_EXCHANGE, "direct", durable=True)
        for queue in queues:
            # The dead letters' queue first: a queue must not work before its dead letters have a place.
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
        "x-dead-letter-routing-key": queue,  # whatever the producer's was
        # By default a dead letter is sent once and lost with the node that sent it.
        # https://www.rabbitmq.com/docs/quorum-queues#dead-lettering
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command ``rabbitmq-queues``."""
    parser.add_argument(
        "--url",
        required=True,
        help="of the broker: amqps://user@host:5671, then /name of a virtual host. The password comes from"
        " RABBITMQ_PASSWORD, from a prompt, or from the first line of standard input",
    )
    parser.add_argument("--queues", nargs="+", default=QUEUES, help="names of the queues, if the template has others")
    parser.add_argument("--redrive", action="store_true", help="move the dead letters of these queues back")


def run(url: str, queues: Sequence[str], console: Console, *, redrive: bool) -> int:
    """Declare the queues on a broker of one's own, and redrive; returns an exit code. Raises OperationsError."""
    url = _with_password(url)
    declare_queues(url, queues)
    for queue in queues:
        console.print(f"[green]✓[/] {queue}, and {dead_letter_queue(queue)}")
        if redrive:
            console.print(f"  {redrive_queue(url, queue)} messages moved back")
    console.print("A producer need not declare these queues. One that does must use the same arguments:")
    for queue in queues:
        declared = f"durable=True, arguments={json.dumps(arguments_of(queue))}"
        console.print(f"channel.queue_declare({json.dumps(queue)}, {declared})", markup=False, soft_wrap=True)
    return 0


def redrive_queue(url: str, queue: str) -> int:
    """Put a queue's dead letters back, as many as stand there now; returns how many that were.

    A message leaves the dead-letter queue only when the broker has confirmed it on the other: interrupted, it may stand
    in both, and is done once by its id.

    Raises
    ------
    OperationsError
        There is no connection, or the broker does not take one.
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
    """Add the password to a URL that has a user only: a command line is there for everybody to read."""
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
