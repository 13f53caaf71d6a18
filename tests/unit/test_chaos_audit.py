"""The sums of `make chaos`: they find everything that is lost, doubled or wrongly moved to the dead-letter queue."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest

from local.chaos import command
from local.chaos import images as chaos_images
from local.chaos import orders as chaos_orders
from local.chaos import rabbitmq as chaos_rabbitmq
from local.chaos.audit import Audit, total
from local.chaos.orders import Placed
from local.chaos.uploads import Change, Deletion, Upload
from local.emulators.payments import TakenPayment
from local.emulators.rabbitmq import BrokerMessage
from local.outcomes import DeadLetter

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def letter(task_id: str, error_code: str, reason: str = "because") -> DeadLetter:
    return DeadLetter(f"message-{task_id}", task_id, error_code, reason, "{}")


class TestAnAudit:
    RIGHT = Audit(accepted=10, done=8, dead_lettered=2, twice=0, details={}, faulty=2)

    def test_is_right_if_everything_was_done_once_or_dead_lettered(self) -> None:
        assert self.RIGHT.is_right
        assert self.RIGHT.summary() == "accepted 10, done 8, dead-lettered 2, lost 0, twice 0"

    @pytest.mark.parametrize(
        "wrong",
        [
            {"done": 7},
            {"twice": 1},
            {"findings": ["something"]},
            {"done": 7, "dead_lettered": 3},
            {"done": 9, "dead_lettered": 1},
            {"done": 9},
        ],
        ids=["lost", "twice", "found", "dead letter for nothing", "faulty, but done", "more than was accepted"],
    )
    def test_is_wrong_otherwise(self, wrong: dict[str, Any]) -> None:
        assert not replace(self.RIGHT, **wrong).is_right

    def test_of_several_is_right_only_if_each_is(self) -> None:
        lost = replace(self.RIGHT, done=7)
        assert total([self.RIGHT, self.RIGHT]).summary() == "accepted 20, done 16, dead-lettered 4, lost 0, twice 0"
        assert total([self.RIGHT, self.RIGHT]).is_right
        assert total([self.RIGHT, lost]).lost == 1


UPLOADS = [
    Upload("a.jpg", "v1", "task-1"),
    Upload("a.jpg", "v2", "task-2"),
    Upload("b.gif", "v3", "task-3", "NotAnImage"),
]


def task(outcome: str) -> dict[str, Any]:
    return {"state": "DONE", "outcome": outcome, "processed_at": NOW.isoformat()}


IMAGES = chaos_images.Found(
    current={"a.jpg": "v2", "b.gif": "v3"},
    tasks={"task-1": task("Superseded"), "task-2": task("Processed"), "task-3": task("DeadLettered")},
    images={
        "a.jpg": {
            "state": "READY",
            "version_id": "v2",
            "version_order": "2",
            "renditions": [{"key": "a.jpg/v2/thumb.webp"}],
        },
        "b.gif": {"state": "REJECTED", "latest_fault": {"version_id": "v3"}},
    },
    written={"a.jpg/v1/thumb.webp": NOW, "a.jpg/v2/thumb.webp": NOW},
    stale=frozenset({"a.jpg/v1/thumb.webp"}),
    results=[{"task_id": "task-2", "image_key": "a.jpg", "version_id": "v2", "version_order": "2"}],
    letters=[letter("task-3", "NotAnImage"), letter("somebody's", "DamagedImage")],
)


class TestImages:
    def test_that_are_done_once_are_right(self) -> None:
        audit = chaos_images.audit(UPLOADS, IMAGES)
        assert (audit.summary(), audit.findings) == ("accepted 3, done 2, dead-lettered 1, lost 0, twice 0", [])
        assert audit.is_right

    def test_announced_again_with_the_same_task_id_are_right(self) -> None:
        audit = chaos_images.audit(UPLOADS, replace(IMAGES, results=[*IMAGES.results, *IMAGES.results]))
        assert audit.is_right
        assert audit.details["results sent more than once, with the same task id"] == 1

    @pytest.mark.parametrize(
        "tasks",
        [
            {"task-2": task("Processed"), "task-3": task("DeadLettered")},
            dict(IMAGES.tasks) | {"task-1": {"state": "IN_PROGRESS"}},
            dict(IMAGES.tasks) | {"task-1": task("DeadLettered")},
        ],
        ids=["never started", "not finished", "moved to the dead-letter queue, but not among the dead letters"],
    )
    def test_that_are_lost_are_counted(self, tasks: dict[str, dict[str, Any]]) -> None:
        audit = chaos_images.audit(UPLOADS, replace(IMAGES, tasks=tasks))
        assert (audit.lost, audit.is_right) == (1, False)

    def test_without_the_expected_dead_letter_are_lost(self) -> None:
        audit = chaos_images.audit(UPLOADS, replace(IMAGES, letters=[]))
        assert (audit.lost, audit.is_right) == (1, False)

    @pytest.mark.parametrize(
        "change",
        [
            {"written": dict(IMAGES.written) | {"a.jpg/v2/thumb.webp": NOW + timedelta(minutes=1)}},
            {
                "results": [
                    *IMAGES.results,
                    {"task_id": "task-9", "image_key": "a.jpg", "version_id": "v2", "version_order": "2"},
                ]
            },
        ],
        ids=["renditions written again", "announced under two ids"],
    )
    def test_with_a_double_effect_are_counted(self, change: dict[str, Any]) -> None:
        audit = chaos_images.audit(UPLOADS, replace(IMAGES, **change))
        assert (audit.twice, audit.is_right) == (1, False)

    @pytest.mark.parametrize(
        ("change", "finding"),
        [
            ({"letters": [letter("task-3", "", "")]}, "task-3 was moved to the dead-letter queue without a reason."),
            (
                {"letters": [letter("task-3", "NotAnImage", "")]},
                "task-3 was moved to the dead-letter queue without a reason.",
            ),
            (
                {"letters": [letter("task-3", "OutOfTime")]},
                "task-3 was moved to the dead-letter queue as OutOfTime, not as NotAnImage",
            ),
            (
                {"letters": [*IMAGES.letters, letter("task-2", "OutOfTime")]},
                "task-2 was moved to the dead-letter queue as OutOfTime, but could be done",
            ),
            (
                {"tasks": dict(IMAGES.tasks) | {"task-3": task("Processed")}},
                "task-3 was rendered, although it cannot be.",
            ),
            ({"images": {}}, "b.gif cannot be rendered, but its record is (None, None)."),
            ({"images": {}}, "a.jpg is not published in its current version."),
            (
                {"images": {"a.jpg": dict(IMAGES.images["a.jpg"]) | {"version_id": "v1"}}},
                "a.jpg is not published in its current version.",
            ),
            ({"results": []}, "a.jpg has no result."),
            ({"written": {}}, "a.jpg has a missing rendition."),
            ({"stale": frozenset()}, "a.jpg/v1/thumb.webp belongs to no record"),
        ],
    )
    def test_in_a_wrong_state_are_found(self, change: dict[str, Any], finding: str) -> None:
        audit = chaos_images.audit(UPLOADS, replace(IMAGES, **change))
        assert finding in " ".join(audit.findings)
        assert not audit.is_right


GONE = Deletion(Change.DELETE, "a.jpg", "task-4")
DELETED = replace(
    IMAGES,
    current=dict(IMAGES.current) | {"a.jpg": None},
    tasks=dict(IMAGES.tasks) | {"task-2": task("Deleted"), "task-4": task("Unchanged")},
    images=dict(IMAGES.images) | {"a.jpg": {"state": "DELETED", "version_order": "3"}},
    written={},
    stale=frozenset(),
    results=[{"task_id": "task-2", "image_key": "a.jpg", "state": "DELETED", "version_order": "3"}],
)


class TestDeletedImages:
    def test_of_which_a_tombstone_alone_is_left_are_right(self) -> None:
        audit = chaos_images.audit(UPLOADS, DELETED, [GONE])
        assert (audit.summary(), audit.findings) == ("accepted 4, done 3, dead-lettered 1, lost 0, twice 0", [])
        assert audit.is_right
        assert audit.details["keys whose record is what S3 shows"] == "2 of 2"
        assert audit.details["keys deleted"] == 1

    def test_whose_deletion_was_never_processed_are_lost(self) -> None:
        audit = chaos_images.audit(UPLOADS, replace(DELETED, tasks={**DELETED.tasks, "task-4": {}}), [GONE])
        assert (audit.lost, audit.is_right) == (1, False)

    @pytest.mark.parametrize(
        ("change", "finding"),
        [
            ({"images": IMAGES.images}, "a.jpg is deleted, but its record is READY."),
            ({"images": {}}, "a.jpg is deleted, but its record is missing."),
            (
                {"written": {"a.jpg/0123456789abcdef/thumb.webp": NOW}, "stale": {"a.jpg/0123456789abcdef/thumb.webp"}},
                "a.jpg is deleted, but has 1 renditions.",
            ),
            ({"results": IMAGES.results}, "a.jpg: its latest result is not that of its record."),
            ({"current": IMAGES.current}, "a.jpg is not published in its current version."),
        ],
    )
    def test_that_are_not_as_s3_shows_them_are_found(self, change: dict[str, Any], finding: str) -> None:
        audit = chaos_images.audit(UPLOADS, replace(DELETED, **change), [GONE])
        assert finding in audit.findings


STOCK = {"print": 3}
ORDERS = [
    Placed("order-1", {"print": 2}, 500, {}),
    Placed("order-2", {"print": 2}, 700, {}),
    Placed("order-3", {}, 0, {}, "MalformedMessage"),
]
ORDERS_FOUND = chaos_orders.Found(
    orders={
        "order-1": {"state": "COMPLETED"},
        "order-2": {"state": "REJECTED", "rejection": {"code": "OutOfStock"}},
    },
    stock={"print": {"available": 1, "reserved": 0, "sold": 2}},
    payments={"order-1": [TakenPayment("pi_1", 500, 0)]},
    events=[
        {"order_id": "order-1", "event_type": "OrderCompleted", "event_id": "event-1"},
        {"order_id": "order-2", "event_type": "OrderRejected", "event_id": "event-2"},
    ],
    letters=[letter("order-3", "MalformedMessage")],
)


def stock(available: int, reserved: int, sold: int) -> dict[str, Any]:
    return {"stock": {"print": {"available": available, "reserved": reserved, "sold": sold}}}


def events(*more: Mapping[str, str]) -> dict[str, Any]:
    return {"events": [*ORDERS_FOUND.events, *more]}


class TestOrders:
    def test_that_are_done_once_are_right(self) -> None:
        audit = chaos_orders.audit(ORDERS, STOCK, ORDERS_FOUND)
        assert (audit.summary(), audit.findings) == ("accepted 3, done 2, dead-lettered 1, lost 0, twice 0", [])
        assert audit.is_right

    def test_announced_again_with_the_same_event_id_are_right(self) -> None:
        audit = chaos_orders.audit(ORDERS, STOCK, replace(ORDERS_FOUND, **events(*ORDERS_FOUND.events)))
        assert audit.is_right
        assert audit.details["events published more than once, with the same id"] == 2

    @pytest.mark.parametrize(
        "orders",
        [{"order-1": {"state": "COMPLETED"}}, dict(ORDERS_FOUND.orders) | {"order-2": {"state": "UNCHARGED"}}],
        ids=["never received", "not at its end"],
    )
    def test_that_are_lost_are_counted(self, orders: dict[str, dict[str, Any]]) -> None:
        audit = chaos_orders.audit(ORDERS, STOCK, replace(ORDERS_FOUND, orders=orders))
        assert (audit.lost, audit.is_right) == (1, False)

    def test_without_the_expected_dead_letter_are_lost(self) -> None:
        audit = chaos_orders.audit(ORDERS, STOCK, replace(ORDERS_FOUND, letters=[]))
        assert (audit.lost, audit.is_right) == (1, False)

    def test_that_were_charged_twice_are_counted(self) -> None:
        # even if the second payment was given back
        paid = {"order-1": [TakenPayment("pi_1", 500, 0), TakenPayment("pi_2", 500, 500)]}
        audit = chaos_orders.audit(ORDERS, STOCK, replace(ORDERS_FOUND, payments=paid))
        assert (audit.twice, audit.is_right) == (1, False)

    @pytest.mark.parametrize(
        ("change", "finding"),
        [
            ({"letters": [letter("order-3", "")]}, "order-3 was moved to the dead-letter queue without a reason."),
            (
                {"letters": [*ORDERS_FOUND.letters, letter("order-1", "ServiceUnavailable")]},
                "order-1 was moved to the dead-letter queue as ServiceUnavailable, but could be done",
            ),
            (
                {"orders": dict(ORDERS_FOUND.orders) | {"order-3": {"state": "RECEIVED"}}},
                "order-3 is invalid",
            ),
            (stock(0, 0, 2), "does not add up to the 3 at the start"),
            (stock(0, 1, 2), "1 are still reserved"),
            (stock(-1, 0, 4), "4 sold, but completed orders have 2"),
            (stock(-1, 0, 4), "oversold by 1"),
            ({"payments": {}}, "order-1 is COMPLETED: 0 charged, 500 owed."),
            ({"payments": {"order-1": [TakenPayment("pi_1", 500, 100)]}}, "400 charged, 500 owed"),
            (
                {"payments": dict(ORDERS_FOUND.payments) | {"order-2": [TakenPayment("pi_2", 700, 0)]}},
                "order-2 is REJECTED: 700 charged, 0 owed.",
            ),
            ({"events": ORDERS_FOUND.events[:1]}, "order-2 is REJECTED; the events published are none."),
            (
                events({"order_id": "order-1", "event_type": "OrderCompleted", "event_id": "event-9"}),
                "order-1 is COMPLETED; the events published are",
            ),
            (
                events({"order_id": "order-1", "event_type": "OrderRejected", "event_id": "event-1"}),
                "order-1 is COMPLETED; the events published are",
            ),
        ],
    )
    def test_in_a_wrong_state_are_found(self, change: dict[str, Any], finding: str) -> None:
        audit = chaos_orders.audit(ORDERS, STOCK, replace(ORDERS_FOUND, **change))
        assert finding in " ".join(audit.findings)
        assert not audit.is_right


class TestDeadLetters:
    PUBLISHED = tuple(
        chaos_rabbitmq.Published(name, "orders", BrokerMessage(b"{}")) for name in ("message-1", "message-2")
    )
    OTHER = letter("message-2", "MalformedMessage")

    def test_of_messages_that_are_not_valid_are_right(self) -> None:
        assert chaos_rabbitmq.audit(self.PUBLISHED, [letter("message-1", "MalformedMessage"), self.OTHER]).is_right

    @pytest.mark.parametrize(
        ("letters", "lost"),
        [([], 1), ([letter("message-1", "")], 1), ([letter("message-1", "TooLarge")], 1)],
        ids=["lost", "without a reason", "with another reason"],
    )
    def test_in_a_wrong_state_are_found(self, letters: list[DeadLetter], lost: int) -> None:
        audit = chaos_rabbitmq.audit(self.PUBLISHED, [*letters, self.OTHER])
        assert (audit.lost, audit.is_right) == (lost, False)


@pytest.mark.parametrize(
    ("flow", "faults"),
    [
        ("images", ["dynamodb", "sqs", "s3", "functions"]),
        ("orders", ["dynamodb", "key", "payments", "sqs", "products", "payments away", "sns", "functions"]),
        (
            "rabbitmq",
            [
                *("broker", "dynamodb", "key", "payments", "sqs", "products"),
                *("s3", "broker", "payments away", "sns", "functions"),
            ],
        ),
    ],
)
def test_a_flow_alone_gets_all_items_and_the_faults_that_concern_it(flow: str, faults: list[str]) -> None:
    # given faults that only say what they are
    happened: list[str] = []
    injector = operator = Mock()
    injector.aws_outage.side_effect = happened.append
    for name, called in {
        "restart_broker": "broker",
        "restart_payments": "payments",
        "payments_outage": "payments away",
        "kill_functions": "functions",
        "replace_the_key": "key",
        "lose_products": "products",
    }.items():
        getattr(injector, name).side_effect = partial(happened.append, called)
    # when
    counts = command._split(flow, 50)
    plan = command._plan(injector, operator, counts, random.Random(1))  # noqa: S311
    for _, disturb in plan:
        disturb()
    # then
    assert counts == {flow: 50}
    assert Counter(happened) == Counter(faults)
    assert [share for share, _ in plan] == sorted(share for share, _ in plan)
