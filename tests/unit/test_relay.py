from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

import pytest
from darkroom import sending
from darkroom.errors import MalformedMessage, NoRoute, ServiceUnavailable, UnexpectedError
from darkroom.image_messages import read_body
from hypothesis import given
from hypothesis import strategies as st

from functions.relay_rabbitmq import relay as relay_module
from functions.relay_rabbitmq.deliveries import Delivery, read_event
from functions.relay_rabbitmq.relay import Accepted, DeadLetterQueue, Queues, Target, Undeliverable, judge
from functions.relay_rabbitmq.sqs import SqsDeadLetterQueue, SqsQueues
from tests.unit.events import BUCKET, body_of
from tests.unit.fakes import plain_task, upload_event
from tests.unit.relay_fakes import (
    IMAGE_TASKS,
    LARGEST,
    ORDERS,
    ROUTES,
    FakeDeadLetterQueue,
    FakeQueues,
    StrictSqs,
    delivery,
    event_message,
    event_of,
    put_together,
)


def relay(
    deliveries: Sequence[Delivery], routes: Mapping[str, Target], queues: Queues, dead_letter_queue: DeadLetterQueue
) -> list[Accepted | Undeliverable]:
    return list(relay_module.relay(deliveries, routes, queues, dead_letter_queue))


TASK = json.dumps({"bucket": BUCKET, "key": "Käthe.jpg", "version_id": "v-1"}, ensure_ascii=False)
ORDER = {name: value for name, value in json.loads(body_of("order_good")).items() if name != "order_id"}


def accepted(found: Delivery) -> Accepted:
    outcome = judge(found, ROUTES)
    assert isinstance(outcome, Accepted), outcome.fault
    return outcome


def undeliverable(found: Delivery) -> Undeliverable:
    outcome = judge(found, ROUTES)
    assert isinstance(outcome, Undeliverable)
    return outcome


@pytest.fixture(scope="module", autouse=True)
def no_waits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sending, "sleep", lambda seconds: None)
        yield


class TestARoute:
    def test_leads_to_its_target(self) -> None:
        assert accepted(delivery(plain_task())).target is Target.IMAGE_TASKS
        assert accepted(delivery(body_of("order_good"), ORDERS)).target is Target.ORDERS

    def test_decides_what_is_valid(self) -> None:
        assert undeliverable(delivery(plain_task(), ORDERS)).fault.error_code == "MalformedMessage"
        assert undeliverable(delivery(body_of("order_good"), IMAGE_TASKS)).fault.error_code == "MalformedMessage"

    @pytest.mark.parametrize("queue", ["newsletter::/", "image-tasks::/other", "image-tasks", ""])
    def test_is_for_one_queue_of_one_virtual_host(self, queue: str) -> None:
        fault = undeliverable(delivery(plain_task(), queue)).fault
        assert fault.error_code == "NoRoute"
        assert f"messages of {queue} go; there are routes for image-tasks::/, orders::/." in str(fault)

    def test_may_be_missing(self) -> None:
        outcome = judge(delivery(plain_task()), {})
        assert isinstance(outcome, Undeliverable)
        assert "there are routes for none" in str(outcome.fault)


class TestAnId:
    @pytest.mark.parametrize(("body", "queue"), [(plain_task(task_id="own"), IMAGE_TASKS), ("ORDER", ORDERS)])
    def test_in_the_body_counts_first(self, body: str, queue: str) -> None:
        body = json.dumps(ORDER | {"order_id": "own"}) if body == "ORDER" else body
        outcome = accepted(delivery(body, queue, message_id="m-1"))
        assert (outcome.task_id, outcome.body) == ("own", body)

    @pytest.mark.parametrize(
        ("body", "queue", "field"), [(TASK, IMAGE_TASKS, "task_id"), (json.dumps(ORDER), ORDERS, "order_id")]
    )
    def test_is_otherwise_the_messages(self, body: str, queue: str, field: str) -> None:
        outcome = accepted(delivery(body, queue, message_id="m-1"))
        assert outcome.task_id == json.loads(outcome.body)[field] == "m-1"

    def test_is_otherwise_made_from_queue_and_body(self) -> None:
        routes = ROUTES | {"other::/": Target.IMAGE_TASKS}
        found = [judge(delivery(TASK + " " * n, queue), routes) for n in (0, 1) for queue in (IMAGE_TASKS, "other::/")]
        assert len({outcome.task_id for outcome in found}) == 4
        assert all(outcome.task_id.startswith("rabbitmq-") for outcome in found)

    def test_of_a_task_without_a_version_is_not_its_content(self) -> None:
        body = json.dumps({"bucket": BUCKET, "key": "a.jpg"})
        assert accepted(delivery(body)).task_id != accepted(delivery(body)).task_id

    def test_of_an_order_must_be_its_producers(self) -> None:
        """Two equal orders are two purchases."""
        fault = undeliverable(delivery(json.dumps(ORDER), ORDERS)).fault
        assert isinstance(fault, MalformedMessage)
        assert "has no order_id, and the RabbitMQ message no message_id" in str(fault)

    def test_is_added_to_the_message_inside_an_envelope(self) -> None:
        body = json.dumps({"Type": "Notification", "Message": json.dumps(ORDER)})
        outcome = accepted(delivery(body, ORDERS, message_id="m-1"))
        assert json.loads(outcome.body) == ORDER | {"order_id": "m-1"}

    def test_is_the_same_for_every_delivery(self) -> None:
        for properties in ({}, {"messageId": "m-1"}):
            first, again = (
                judge(next(read_event(event_of({IMAGE_TASKS: [event_message(TASK, redelivered=r, **properties)]}))), {})
                for r in (False, True)
            )
            assert first.task_id == again.task_id

    @pytest.mark.parametrize("message_id", ["", "with space", "ä", "a\n", "\0", "\ud800", "x" * 201])
    def test_of_the_message_is_ignored_if_no_target_accepts_it(self, message_id: str) -> None:
        assert accepted(delivery(TASK, message_id=message_id)).task_id.startswith("rabbitmq-")
        assert undeliverable(delivery("hello", message_id=message_id)).task_id.startswith("rabbitmq-")

    @pytest.mark.parametrize("message_id", ["!", "~" * 200, '"\\'])
    def test_of_the_message_is_used_if_the_targets_accept_it(self, message_id: str) -> None:
        for body, queue in ((TASK, IMAGE_TASKS), (json.dumps(ORDER), ORDERS)):
            assert accepted(delivery(body, queue, message_id=message_id)).task_id == message_id

    @pytest.mark.parametrize("own", ["", "with space", "ä", "x" * 201, "\ud800", 7, 0, False, [], {}])
    def test_in_the_body_that_no_target_accepts_is_a_fault(self, own: Any) -> None:
        for body, queue in (({"bucket": BUCKET, "key": "a", "task_id": own}, IMAGE_TASKS), (ORDER, ORDERS)):
            found = undeliverable(delivery(json.dumps(body | {"order_id": own}), queue, message_id="m-1"))
            assert (found.task_id, found.fault.error_code) == ("m-1", "MalformedMessage")

    def test_of_an_invalid_message_is_kept(self) -> None:
        assert undeliverable(delivery(plain_task(task_id="own", bucket="-"), message_id="m-1")).task_id == "own"
        assert undeliverable(delivery('{"order_id": "own"}', ORDERS)).task_id == "own"


class TestABodyWithoutAnId:
    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            (TASK, TASK[:-1] + ', "task_id": "m-1"}'),
            (f" {TASK} \n", f" {TASK[:-1]}" + ', "task_id": "m-1"}'),
            (TASK[:-1] + ', "n": 1e999, "f": 1.10}', TASK[:-1] + ', "n": 1e999, "f": 1.10, "task_id": "m-1"}'),
        ],
    )
    def test_gets_one_and_stays_otherwise_unchanged(self, written: str, expected: str) -> None:
        assert accepted(delivery(written, message_id="m-1")).body == expected

    @pytest.mark.parametrize("field", ["task_id", "order_id"])
    def test_may_say_so_with_null(self, field: str) -> None:
        queue, body = (IMAGE_TASKS, json.loads(TASK)) if field == "task_id" else (ORDERS, ORDER)
        outcome = accepted(delivery(json.dumps({field: None} | body), queue, message_id="m-1"))
        assert json.loads(outcome.body) == body | {field: "m-1"}
        assert outcome.task_id == "m-1"

    @pytest.mark.parametrize("field", ["Type", "Records", "source"])
    def test_may_have_fields_like_an_s3_event(self, field: str) -> None:
        outcome = accepted(delivery(json.dumps(ORDER | {field: "b2b"}), ORDERS, message_id="m-1"))
        assert json.loads(outcome.body)["order_id"] == "m-1"

    @pytest.mark.parametrize("depth", [10, *range(400, 1000, 10), 100_000])
    def test_may_be_nested_at_any_depth(self, depth: int) -> None:
        body = TASK[:-1] + ', "x": ' + "[" * depth + "]" * depth + "}"
        outcome = judge(delivery(body, message_id="m-1"), ROUTES)
        if isinstance(outcome, Accepted):
            assert outcome.body == body[:-1] + ', "task_id": "m-1"}'
        else:
            assert outcome.fault.error_code == "MalformedMessage"

    def test_may_be_as_large_as_sqs_accepts_with_the_id(self) -> None:
        def of_size(size: int) -> str:
            return TASK[:-1] + ', "x": "' + "ä" * ((size - len(TASK.encode()) - 8) // 2) + '"}'

        most = LARGEST - len(', "task_id": "m-1"')
        assert len(accepted(delivery(of_size(most - 2), message_id="m-1")).body.encode()) > LARGEST - 4
        fault = undeliverable(delivery(of_size(most + 2), message_id="m-1")).fault
        assert (fault.error_code, str(fault)[:13]) == ("NotAcceptedBySqs", "With its task")

    def test_becomes_a_dead_letter_unchanged(self) -> None:
        for found in (delivery("{}", message_id="m-1"), delivery(" { } ", message_id="m-1")):
            assert (undeliverable(found).delivery, undeliverable(found).task_id) == (found, "m-1")
            assert undeliverable(found).fault.error_code == "MalformedMessage"


class TestS3Events:
    @pytest.mark.parametrize(
        "name", ["sqs_s3", "sqs_s3_several_records", "sqs_sns", "sqs_eventbridge", "sqs_test_event"]
    )
    def test_of_every_shape_pass_unchanged(self, name: str) -> None:
        assert accepted(delivery(body_of(name), message_id="m-1")).body == body_of(name)

    def test_pass_if_one_of_their_records_can_be_read(self) -> None:
        good = json.loads(upload_event())["Records"]
        body = json.dumps({"Records": [{}, *good]})
        assert accepted(delivery(body)).body == body
        assert [type(task).__name__ for task in read_body(body)] == ["Unreadable", "ImageTask"]

    def test_are_dead_lettered_with_every_reason_if_none_can(self) -> None:
        deleted = json.loads(upload_event())["Records"][0] | {"eventName": "ObjectTagging:Delete"}
        reason = str(undeliverable(delivery(json.dumps({"Records": [{}, deleted, {}]}))).fault)
        assert reason.count("A record lacks") == 1
        assert "ObjectTagging:Delete" in reason

    def test_are_dead_lettered_with_a_reason_that_can_be_logged(self) -> None:
        removed = json.loads(upload_event())["Records"][0] | {"eventName": "\ud800"}
        reason = str(undeliverable(delivery(json.dumps({"Records": [removed]}))).fault)
        assert "The S3 event is ?;" in reason


class TestARejection:
    @pytest.mark.parametrize("text", ["\ufffe", "\uffff"])
    def test_is_for_characters_that_sqs_does_not_take(self, text: str) -> None:
        for task_id in ("own", None):
            body = json.dumps({"task_id": task_id, "bucket": BUCKET, "key": text}, ensure_ascii=False)
            fault = undeliverable(delivery(body, message_id="m-1")).fault
            assert (fault.error_code, "U+FFFE" in str(fault)) == ("NotAcceptedBySqs", True)

    def test_is_for_more_than_sqs_takes(self) -> None:
        body = plain_task().ljust(LARGEST)
        assert accepted(delivery(body)).body == body
        assert undeliverable(delivery(body + " ")).fault.error_code == "TooLarge"

    def test_is_for_darkrooms_own_defects(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # given a defect that only some messages find
        def read(body: str) -> Any:
            raise KeyError(body)

        kinds = relay_module._KINDS | {Target.ORDERS: relay_module._Kind("order_id", read, relay_module._id_of_order)}
        monkeypatch.setattr(relay_module, "_KINDS", kinds)
        queues, dead_letter_queue = FakeQueues(), FakeDeadLetterQueue()
        # when
        relay([delivery('{"order_id": "o"}', ORDERS), delivery(plain_task())], ROUTES, queues, dead_letter_queue)
        # then the others are not held up
        assert queues.bodies[Target.IMAGE_TASKS] == [plain_task()]
        (kept,) = dead_letter_queue.kept
        assert isinstance(kept.fault, UnexpectedError)
        assert isinstance(kept.fault.__cause__, KeyError)
        assert "KeyError" in str(kept.fault)


class TestABatch:
    def test_of_nothing_does_nothing(self) -> None:
        assert relay([], ROUTES, FakeQueues(down=set(Target)), FakeDeadLetterQueue(down=True)) == []

    def test_of_a_queue_without_a_route_stays_on_the_broker(self) -> None:
        """As while an update of the stack gives the function other routes, and the old queue is still read."""
        queues, dead_letter_queue = FakeQueues(), FakeDeadLetterQueue()
        with pytest.raises(NoRoute, match="Nothing says where messages of renamed::/ go"):
            relay([delivery(plain_task()), delivery(plain_task(), "renamed::/")], ROUTES, queues, dead_letter_queue)
        assert (dict(queues.bodies), dead_letter_queue.kept) == ({}, [])

    def test_is_sent_with_some_invalid(self) -> None:
        queues, dead_letter_queue = FakeQueues(), FakeDeadLetterQueue()
        order = json.dumps(ORDER | {"order_id": "o-1"})
        bad, nowhere = delivery("hello"), delivery("x", ORDERS)
        # when
        outcomes = relay(
            [delivery(plain_task(task_id="t-1")), bad, delivery(order, ORDERS), nowhere],
            ROUTES,
            queues,
            dead_letter_queue,
        )
        # then
        assert queues.bodies == {Target.IMAGE_TASKS: [plain_task(task_id="t-1")], Target.ORDERS: [order]}
        assert [kept.delivery for kept in dead_letter_queue.kept] == [bad, nowhere]
        assert [type(outcome).__name__ for outcome in outcomes] == [
            "Accepted",
            "Undeliverable",
            "Accepted",
            "Undeliverable",
        ]

    def test_is_sent_in_parts_so_that_it_fits_into_memory(self) -> None:
        queues = FakeQueues()

        def deliveries() -> Iterator[Delivery]:
            for number in range(100):
                assert len(queues.bodies[Target.IMAGE_TASKS]) >= number - 10
                yield delivery(plain_task(task_id=f"t-{number}"))

        outcomes = relay_module.relay(deliveries(), ROUTES, queues, FakeDeadLetterQueue())
        assert sum(isinstance(outcome, Accepted) for outcome in outcomes) == 100

    def test_may_bring_a_message_twice(self) -> None:
        queues = FakeQueues()
        outcomes = relay([delivery(TASK), delivery(TASK)], ROUTES, queues, FakeDeadLetterQueue())
        first, second = queues.bodies[Target.IMAGE_TASKS]
        assert (first, len(outcomes)) == (second, 2)

    def test_leaves_what_sqs_will_never_take_in_the_dead_letter_queue(self) -> None:
        good, bad = plain_task(task_id="good"), plain_task(task_id="bad")
        queues, dead_letter_queue = FakeQueues(refused={bad: "InvalidMessageContents: no"}), FakeDeadLetterQueue()
        # when
        outcomes = relay([delivery(bad), delivery(good)], ROUTES, queues, dead_letter_queue)
        # then
        assert queues.bodies[Target.IMAGE_TASKS] == [good]
        assert outcomes[:1] == dead_letter_queue.kept
        (kept,) = dead_letter_queue.kept
        assert (kept.task_id, kept.fault.error_code) == ("bad", "NotAcceptedBySqs")
        assert "InvalidMessageContents: no" in str(kept.fault)

    @pytest.mark.parametrize("down", list(Target))
    def test_fails_while_a_target_is_down_and_is_whole_afterwards(self, down: Target) -> None:
        tasks = [plain_task(task_id=f"t-{n}") for n in range(4)]
        orders = [json.dumps(ORDER | {"order_id": f"o-{n}"}) for n in range(4)]
        batch = [delivery("hello"), *map(delivery, tasks), *(delivery(order, ORDERS) for order in orders)]
        queues, dead_letter_queue = FakeQueues(down={down}), FakeDeadLetterQueue()
        # given
        for _ in range(2):
            with pytest.raises(ServiceUnavailable, match=f"{down} is down"):
                relay(batch, ROUTES, queues, dead_letter_queue)
        # when
        queues.down.clear()
        relay(batch, ROUTES, queues, dead_letter_queue)
        # then
        assert set(queues.bodies[Target.IMAGE_TASKS]) == set(tasks)
        assert set(queues.bodies[Target.ORDERS]) == set(orders)
        assert {kept.delivery.data for kept in dead_letter_queue.kept} == {b"hello"}

    def test_fails_while_the_dead_letter_queue_is_down(self) -> None:
        queues = FakeQueues()
        with pytest.raises(ServiceUnavailable, match="dead-letter queue is down"):
            relay([delivery("hello"), delivery(plain_task())], ROUTES, queues, FakeDeadLetterQueue(down=True))
        assert queues.bodies[Target.IMAGE_TASKS] == [plain_task()]

    def test_passes_without_the_dead_letter_queue_if_it_needs_none(self) -> None:
        relay([delivery(plain_task())], ROUTES, FakeQueues(), FakeDeadLetterQueue(down=True))


IDS = st.sampled_from([None, "m-1", "m-2", "with space"])
VALID = st.one_of(
    st.builds(lambda n, m: delivery(plain_task(task_id=f"t-{n}"), message_id=m), st.integers(0, 30), IDS),
    st.builds(lambda n: delivery(TASK, message_id=f"m-{n}"), st.integers(0, 9)),
    st.builds(
        lambda n: delivery(gzip.compress((TASK + " " * n).encode(), mtime=0), encoding="gzip"), st.integers(0, 9)
    ),
    st.builds(lambda n: delivery(json.dumps(ORDER | {"order_id": f"o-{n}"}), ORDERS), st.integers(0, 30)),
    st.builds(lambda n: delivery(json.dumps(ORDER), ORDERS, message_id=f"o-m-{n}"), st.integers(0, 9)),
    st.builds(lambda n: delivery(upload_event(f"{n}.jpg")), st.integers(0, 9)),
)
INVALID = st.one_of(
    st.builds(lambda data, m: delivery(b"\xff" + data, message_id=m), st.binary(max_size=9), IDS),
    st.builds(lambda text, m: delivery("no: " + text, ORDERS, message_id=m), st.text(max_size=9), IDS),
    st.builds(lambda data, m: delivery(data, encoding="br", message_id=m), st.binary(max_size=9), IDS),
    st.builds(lambda n: delivery(b"x" * (n * 700_000), headers={"h": "ä" * 30_000}), st.integers(0, 4)),
)
TROUBLES = st.lists(st.sampled_from(["", "", "", "", "refused", "answer lost"]), max_size=60)


@given(st.lists(VALID, max_size=25), st.lists(INVALID, max_size=10), TROUBLES, st.randoms(use_true_random=False))
def test_a_batch_that_is_retried_after_any_failure_loses_nothing(
    valid: list[Delivery], invalid: list[Delivery], troubles: list[str], chance: Random
) -> None:
    batch = [*valid, *invalid]
    chance.shuffle(batch)
    sqs = StrictSqs(iter(troubles))
    queues = SqsQueues(sqs.client, {target: target.value for target in Target})
    dead_letter_queue = SqsDeadLetterQueue(sqs.client, "dead-letters")
    # when
    for _ in range(len(troubles) + 1):
        try:
            outcomes = relay(batch, ROUTES, queues, dead_letter_queue)
            break
        except ServiceUnavailable:
            continue
    else:
        raise AssertionError("there are fewer troubles than that")
    # then every valid message is in its target, and under one id there is one body only
    assert len(outcomes) == len(batch)
    for target, field in ((Target.IMAGE_TASKS, "task_id"), (Target.ORDERS, "order_id")):
        expected = {o.body for o in outcomes if isinstance(o, Accepted) and o.target is target}
        sent = {message.body for message in sqs.queues[target]}
        assert sent == expected
        with_ids = [body for body in sent if field in json.loads(body)]
        assert len({json.loads(body)[field] for body in with_ids}) == len(with_ids)
    # and every invalid one is in the dead-letter queue, as it was published
    assert put_together(sqs.queues["dead-letters"]) == {
        (o.task_id, o.fault.error_code, o.delivery.data) for o in outcomes if isinstance(o, Undeliverable)
    }
    assert all(message.attributes["reason"] for message in sqs.queues["dead-letters"])
    # and it was the invalid that were moved to the dead-letter queue
    assert [isinstance(o, Accepted) for o in outcomes] == [found in valid for found in batch]
