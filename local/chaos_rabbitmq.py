"""The RabbitMQ intake under disturbance: broker restarted, function killed with -9, SQS refusing parts of batches.

The functions behind the queues are held back, so that the audit sees what stands there.
"""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic, sleep, time
from typing import Any

from darkroom.messages import hash_id
from rich.console import Console
from rich.progress import Progress

from local import emulator, rabbitmq
from local.audit import Audit
from local.disturbances import held_back_messages, kill_functions
from local.machine import LaptopError, Place
from local.rabbitmq import Message
from local.stack import Stack

_INVALID = 0.05
_COMPRESSED = 0.1
# Of the valid messages some have no id in their body: the broker's message id, or their content, identifies these.
_WITHOUT_ID = 0.2
_REFUSED_BY_SQS = 0.1
_RESTART_AT = (0.2, 0.7)
_KILL_AT = (0.1, 0.4, 0.6, 0.9)
_PUBLISHED_AT_ONCE = 500
_QUEUES = {
    "image-tasks": "ImageTasksQueueUrl",
    "orders": "OrderQueueUrl",
    "rejects": "RabbitMqRejectsQueueUrl",
}


@dataclass(frozen=True)
class Published:
    """One message. ``task_id`` is what it must be known by, ``belongs`` to which of the queues it must come."""

    task_id: str
    source: str
    belongs: str
    message: Message


@dataclass
class Found:
    """What stands in the queues: by queue and task id every body, and of the rejects their error codes."""

    bodies: dict[str, dict[str, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    error_codes: Counter[str] = field(default_factory=Counter)
    seen: int = 0

    def count(self, published: Sequence[Published]) -> int:
        """How many messages have come to where they belong."""
        return sum(message.task_id in self.bodies[message.belongs] for message in published)


def disturb(deployed: Stack, place: Place, console: Console, items: int) -> Audit:
    """Publish ``items`` messages with confirms while disturbing what relays them, and audit the queues."""
    if not deployed.rabbitmq_url:
        raise LaptopError(rabbitmq.HOW_TO_INSTALL)
    chance = random.Random(items)  # noqa: S311 # the same disturbance each time, for whoever has to look into it
    started = time()
    run = f"chaos-{started:.0f}"
    published = [_message(run, number, chance, invalid=number < items * _INVALID) for number in range(items)]
    chance.shuffle(published)
    found = Found()
    killed: list[int] = []
    restarts: list[float] = []

    def restart_broker() -> None:
        rabbitmq.restart(place)
        restarts.append(time())

    disturbances: list[tuple[float, Callable[[], object]]] = [
        *((share, lambda: killed.append(kill_functions(place))) for share in _KILL_AT),
        *((share, restart_broker) for share in _RESTART_AT),
    ]
    emulator.refuse_part_of_batches(place, _REFUSED_BY_SQS, seed=items)
    try:
        with ExitStack() as held, ThreadPoolExecutor(1) as producer:
            for queue in ("ImageTasksQueueArn", "OrderQueueArn"):
                held.enter_context(held_back_messages(deployed, deployed.outputs[queue]))
            confirmed = producer.submit(_publish, deployed, published)
            _collect(deployed, published, found, disturbances, console)
            copies = confirmed.result()
    finally:
        refused = emulator.refuse_part_of_batches(place, 0, seed=0)
    details = {
        "messages published, each confirmed": copies,
        "broker restarts": len(restarts),
        "function processes killed": sum(killed),
        "entries that SQS refused": refused,
        "seconds": round(time() - started, 1),
    }
    return _audit(published, found, details)


def _message(run: str, number: int, chance: random.Random, *, invalid: bool) -> Published:
    task_id, source = f"{run}-{number:05}", chance.choice(["image-tasks", "orders"])
    body: Any = {"task_id": task_id, "bucket": "darkroom-uploads-example", "key": f"{number}.jpg"}
    if source == "orders":
        items = [{"product_id": "print-30x40", "quantity": 1, "unit_price": 3450}]
        body = {"order_id": task_id, "customer_id": "customer-7", "items": items, "amount": 3450, "currency": "EUR"}
        body["payment_method"] = "pm_card_visa"
    message_id: str | None = None
    if invalid:
        del body["bucket" if source == "image-tasks" else "items"]
    elif chance.random() < _WITHOUT_ID:
        body |= {"run": run, "number": number}
        del body["task_id" if source == "image-tasks" else "order_id"]
        message_id = task_id if chance.random() < 0.5 else None
    data = json.dumps(body).encode()
    encoding = "gzip" if chance.random() < _COMPRESSED else None
    if encoding:
        data = gzip.compress(data, mtime=0)
    if message_id is None and "number" in body:
        task_id = hash_id("rabbitmq", f"{source}::/", data.decode("latin-1"))
    message = Message(data, message_id=message_id, content_encoding=encoding)
    return Published(task_id, source, "rejects" if invalid else source, message)


def _publish(deployed: Stack, published: Sequence[Published]) -> int:
    """Publish everything; again what a restart of the broker left unconfirmed. Returns how many were confirmed."""
    confirmed = 0
    for start in range(0, len(published), _PUBLISHED_AT_ONCE):
        some = published[start : start + _PUBLISHED_AT_ONCE]
        for source in ("image-tasks", "orders"):
            messages = [p.message for p in some if p.source == source]
            end = monotonic() + 120
            while messages:
                try:
                    confirmed += rabbitmq.publish(deployed.rabbitmq_url, source, messages)
                    break
                except LaptopError:
                    if monotonic() > end:
                        raise
                    sleep(0.5)
    return confirmed


def _collect(
    deployed: Stack,
    published: Sequence[Published],
    found: Found,
    disturbances: Sequence[tuple[float, Callable[[], object]]],
    console: Console,
) -> None:
    """Take this run's messages off the queues as they come, until all are there and nothing more is on its way."""
    ids = {p.task_id for p in published}
    to_come = sorted(disturbances, key=lambda disturbance: disturbance[0])
    end = monotonic() + 240 + len(published) / 10
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("Relaying", total=len(published))
        while monotonic() < end:
            taken = sum(_take(deployed, name, ids, found) for name in _QUEUES)
            done = found.count(published)
            progress.update(bar, completed=done)
            while to_come and done >= int(to_come[0][0] * len(published)):
                to_come.pop(0)[1]()
            if done == len(published) and not taken:
                return
            if not taken:
                sleep(0.3)


def _take(deployed: Stack, name: str, ids: set[str], found: Found) -> int:
    """Take what a queue holds of this run; returns how many messages that were. Others' messages stay."""
    sqs, queue_url = deployed.sqs, deployed.outputs[_QUEUES[name]]
    taken = 0
    while messages := sqs.receive_message(
        QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=0, MessageAttributeNames=["All"]
    ).get("Messages"):
        for message in messages:
            attributes = {n: a.get("StringValue", "") for n, a in message.get("MessageAttributes", {}).items()}
            task_id = attributes.get("task_id") or _id_of(message["Body"])
            if task_id not in ids:
                continue
            found.bodies[name][task_id].add(message["Body"])
            found.seen += 1
            if name == "rejects":
                found.error_codes[attributes.get("error_code", "")] += 1
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
            taken += 1
    return taken


def _id_of(body: str) -> str:
    """The id in a body; empty for others' messages, which may be anything."""
    try:
        message = json.loads(body)
    except ValueError:
        return ""
    return str(message.get("task_id") or message.get("order_id")) if isinstance(message, dict) else ""


def _audit(published: Sequence[Published], found: Found, details: dict[str, Any]) -> Audit:
    valid = [p for p in published if p.belongs != "rejects"]
    invalid = [p for p in published if p.belongs == "rejects"]
    findings = [
        f"{p.task_id} is in {name}, but belongs to {p.belongs}."
        for p in published
        for name in _QUEUES
        if name != p.belongs and p.task_id in found.bodies[name]
    ]
    changed = [p.task_id for p in published if len(found.bodies[p.belongs].get(p.task_id, ())) > 1]
    findings += [f"{task_id} stands there with different bodies." for task_id in changed]
    distinct = sum(len(by_id) for by_id in found.bodies.values())
    return Audit(
        accepted=len(published),
        done=found.count(valid),
        dead_lettered=found.count(invalid),
        faulty=len(invalid),
        twice=len(changed),
        details={
            **{f"in {name}, by id": len(found.bodies[name]) for name in _QUEUES},
            **{f"rejected as {code}": count for code, count in sorted(found.error_codes.items())},
            "copies with the same id, which the functions know by it": found.seen - distinct,
            **details,
        },
        findings=findings,
    )
