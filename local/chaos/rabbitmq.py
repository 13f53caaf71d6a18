"""Image tasks and orders sent over RabbitMQ, followed to the end; and messages that become dead letters."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic, sleep
from typing import Any

from local.chaos import images as chaos_images
from local.chaos import orders as chaos_orders
from local.chaos.audit import Audit, dead_lettered_rightly, total
from local.chaos.flow import PreparedFlow, in_portions
from local.chaos.orders import Placed
from local.chaos.uploads import Upload, numbered, small_photo, upload
from local.config import LaptopError
from local.emulators import rabbitmq, rabbitmq_install
from local.emulators.rabbitmq import BrokerMessage
from local.outcomes import DeadLetter
from local.stack import Stack
from operations.errors import OperationsError
from operations.flows import FLOWS

DEAD_LETTERS = FLOWS["rabbitmq"].dead_letters
_INVALID = 0.05
_PUBLISHED_TWICE = 0.1
_COMPRESSED = 0.1
# Some valid messages have no id in their body: the broker's message id, or their content, identifies them.
_WITHOUT_ID = 0.2
_SECONDS_TO_PUBLISH = 120


@dataclass(frozen=True)
class Published:
    """One message for a queue of the broker. ``task_id`` is the id that it must get."""

    task_id: str
    queue: str
    message: BrokerMessage


def prepare(deployed: Stack, run: str, items: int, chance: random.Random) -> PreparedFlow:
    """Upload the photos that the image tasks name, and write all messages. Raises LaptopError.

    Parameters
    ----------
    run:
        The prefix of all ids of this run.
    """
    if not deployed.rabbitmq_url:
        raise LaptopError(rabbitmq_install.why_left_out())
    folder = f"{run}/rabbitmq"
    rejected = [_invalid(f"{run}-rabbitmq-invalid-{number:05}") for number in range(max(1, int(items * _INVALID)))]
    valid = items - len(rejected)
    stock = chaos_orders.fill_shelves(deployed, f"{run}-rabbitmq", valid // 2)
    photos = _upload_photos(deployed, folder, valid - valid // 2)
    tasks = [_task(deployed, photo, chance) for photo in photos]
    placed = [
        chaos_orders.place_order(f"{run}-rabbitmq-{number:05}", list(stock), chance) for number in range(valid // 2)
    ]
    orders = [_order(order, chance) for order in placed]
    uploads = [replace(photo, task_id=p.task_id) for photo, p in zip(photos, tasks, strict=True)]
    placed = [replace(order, order_id=p.task_id) for order, p in zip(placed, orders, strict=True)]
    published = [*rejected, *tasks, *orders]
    published += chance.sample(published, int(items * _PUBLISHED_TWICE))
    chance.shuffle(published)

    images_in_flight = chaos_images.tasks_in_flight(deployed)
    orders_in_flight = chaos_orders.orders_in_flight(deployed)
    images_in_flight.watch(p.task_id for p in tasks)
    orders_in_flight.watch(p.task_id for p in orders)
    return PreparedFlow(
        name="rabbitmq",
        portions=[partial(_publish, deployed, some) for some in in_portions(published)],
        count_done=lambda: images_in_flight.count_done() + orders_in_flight.count_done(),
        expected=valid,
        faulty={DEAD_LETTERS: frozenset(p.task_id for p in rejected)},
        audit=lambda seen: total(
            [
                chaos_images.audit(uploads, chaos_images.find(deployed, uploads, folder, seen)),
                chaos_orders.audit(placed, stock, chaos_orders.find(deployed, placed, stock, seen)),
                audit(rejected, seen.letters[DEAD_LETTERS]),
            ]
        ),
    )


def _upload_photos(deployed: Stack, folder: str, count: int) -> list[Upload]:
    """Upload photos that all differ under names that S3 sends no event for."""
    photo = small_photo()

    def upload_one(number: int) -> Upload:
        return upload(deployed, f"{folder}/{number:05}", numbered(photo, number))

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(upload_one, range(count)))


def _task(deployed: Stack, photo: Upload, chance: random.Random) -> Published:
    body = {"bucket": deployed.outputs["UploadsBucketName"], "key": photo.key}
    return _message("image-tasks", "task_id", f"task-{photo.task_id}", body, chance)


def _order(order: Placed, chance: random.Random) -> Published:
    body = {name: value for name, value in order.message.items() if name != "order_id"}
    return _message("orders", "order_id", order.order_id, body, chance)


def _invalid(task_id: str) -> Published:
    body = json.dumps({"order_id": task_id, "customer_id": "customer-7"}).encode()
    return Published(task_id, "orders", BrokerMessage(body))


def _message(queue: str, id_field: str, task_id: str, body: Mapping[str, Any], chance: random.Random) -> Published:
    """Write a message that is known by the id in its body or by the broker's message id."""
    in_body = chance.random() >= _WITHOUT_ID
    data = json.dumps({id_field: task_id, **body} if in_body else body).encode()
    encoding = "gzip" if chance.random() < _COMPRESSED else None
    if encoding:
        data = gzip.compress(data, mtime=0)
    message_id = None if in_body else task_id
    return Published(task_id, queue, BrokerMessage(data, message_id=message_id, content_encoding=encoding))


def _publish(deployed: Stack, published: Sequence[Published]) -> None:
    """Publish every message with a confirm; repeat those that a restart of the broker left unconfirmed."""
    for queue in ("image-tasks", "orders"):
        messages = [p.message for p in published if p.queue == queue]
        end = monotonic() + _SECONDS_TO_PUBLISH
        while messages:
            try:
                rabbitmq.publish(deployed.rabbitmq_url, queue, messages)
                break
            except OperationsError:
                if monotonic() > end:
                    raise
                sleep(0.5)


def audit(rejected: Sequence[Published], letters: Sequence[DeadLetter]) -> Audit:
    """Audit the messages that had to become dead letters."""
    dead, findings = dead_lettered_rightly({p.task_id: "MalformedMessage" for p in rejected}, letters)
    return Audit(
        accepted=len(rejected),
        done=0,
        dead_lettered=len(dead),
        faulty=len(rejected),
        twice=0,
        details={"messages moved to the dead-letter queue, not valid": len(dead)},
        findings=findings,
    )
