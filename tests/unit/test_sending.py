from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError
from darkroom.errors import ServiceUnavailable
from darkroom.retries import backoff
from darkroom.sending import NotAccepted, PlainTask, offer_all, send_all, submit_tasks
from hypothesis import given
from hypothesis import strategies as st
from mypy_boto3_sqs import SQSClient

OUTAGE = {"Code": "InternalError", "Message": "try again", "SenderFault": False}
FORBIDDEN = {"Code": "InvalidMessageContents", "Message": "unheard of", "SenderFault": True}


@dataclass
class FakeSqs:
    """Takes messages, but fails each body in ``failures`` once per failure listed; ``fatal`` fail the whole call."""

    failures: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    fatal: dict[str, str] = field(default_factory=dict)
    calls: list[list[dict[str, Any]]] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        assert QueueUrl == "queue"
        self.calls.append(Entries)
        for code in (self.fatal[entry["MessageBody"]] for entry in Entries if entry["MessageBody"] in self.fatal):
            raise ClientError({"Error": {"Code": code, "Message": "not like this"}}, "SendMessageBatch")
        failed = []
        for entry in Entries:
            if waiting := self.failures.get(entry["MessageBody"]):
                failed.append({"Id": entry["Id"], **waiting.pop(0)})
            else:
                self.accepted.append(entry["MessageBody"])
        return {"Successful": [], "Failed": failed} if failed else {"Successful": []}

    @property
    def client(self) -> SQSClient:
        return cast(SQSClient, self)

    @property
    def bodies_per_call(self) -> list[list[str]]:
        return [[entry["MessageBody"] for entry in call] for call in self.calls]


def test_nothing_to_send_makes_no_call() -> None:
    sqs = FakeSqs()
    assert send_all(sqs.client, "queue", []) == 0
    assert sqs.calls == []


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (10, [10]), (11, [10, 1]), (25, [10, 10, 5])])
def test_a_call_takes_at_most_ten(count: int, sizes: list[int]) -> None:
    sqs = FakeSqs()
    assert send_all(sqs.client, "queue", [f"{number}" for number in range(count)]) == count
    assert [len(call) for call in sqs.calls] == sizes
    assert sqs.accepted == [f"{number}" for number in range(count)]


def test_a_call_takes_at_most_a_million_bytes() -> None:
    sqs = FakeSqs()
    send_all(sqs.client, "queue", ["x" * 400_000] * 5)
    assert [len(call) for call in sqs.calls] == [2, 2, 1]


def test_bytes_are_counted_not_characters() -> None:
    sqs = FakeSqs()
    send_all(sqs.client, "queue", ["ä" * 300_000] * 2)
    assert [len(call) for call in sqs.calls] == [1, 1]


def test_a_body_beyond_the_limit_is_left_for_sqs_to_refuse() -> None:
    sqs = FakeSqs()
    send_all(sqs.client, "queue", ["a", "x" * 2_000_000, "b"])
    assert [len(call) for call in sqs.calls] == [1, 1, 1]


@given(st.lists(st.text(max_size=5) | st.integers(1, 600_000).map("x".__mul__), max_size=40))
def test_every_call_keeps_both_limits_and_the_order(bodies: list[str]) -> None:
    sqs = FakeSqs()
    send_all(sqs.client, "queue", bodies)
    assert sqs.accepted == bodies
    assert all(len(call) <= 10 for call in sqs.calls)
    assert all(len(call) == 1 or sum(len(body.encode()) for body in call) <= 10**6 for call in sqs.bodies_per_call)


def test_ids_are_unique_within_a_call() -> None:
    sqs = FakeSqs()
    send_all(sqs.client, "queue", ["same"] * 10)
    assert len({entry["Id"] for entry in sqs.calls[0]}) == 10


def test_a_generator_is_read_only_as_far_as_it_is_sent() -> None:
    sqs = FakeSqs({"5": [FORBIDDEN]})
    read: list[str] = []

    def bodies() -> Iterator[str]:
        for number in range(1000):
            read.append(f"{number}")
            yield f"{number}"

    with pytest.raises(NotAccepted):
        send_all(sqs.client, "queue", bodies())
    assert len(read) == 11


def test_only_what_failed_inside_a_200_is_sent_again() -> None:
    sqs = FakeSqs({"b": [OUTAGE], "c": [OUTAGE, OUTAGE]})
    assert send_all(sqs.client, "queue", ["a", "b", "c", "d"]) == 4
    assert sqs.bodies_per_call == [["a", "b", "c", "d"], ["b", "c"], ["c"]]
    assert sorted(sqs.accepted) == ["a", "b", "c", "d"]


def test_a_permanent_failure_is_reported_with_its_reason() -> None:
    sqs = FakeSqs({"b": [OUTAGE] * 9})
    with pytest.raises(NotAccepted, match=r"refused 1 message.*InternalError: try again") as error:
        send_all(sqs.client, "queue", ["a", "b"], attempts=2)
    assert error.value.refused == [("b", "InternalError: try again")]
    assert len(sqs.calls) == 2


def test_a_fault_of_the_sender_is_not_retried() -> None:
    sqs = FakeSqs({"b": [FORBIDDEN] * 9})
    with pytest.raises(NotAccepted, match="InvalidMessageContents") as error:
        send_all(sqs.client, "queue", ["a", "b"])
    assert error.value.refused == [("b", "InvalidMessageContents: unheard of")]
    assert len(sqs.calls) == 1


def test_a_fault_of_the_senders_does_not_cost_another_message_its_second_attempt() -> None:
    sqs = FakeSqs({"bad": [FORBIDDEN] * 9, "unlucky": [OUTAGE]})
    with pytest.raises(NotAccepted) as error:
        send_all(sqs.client, "queue", ["bad", "unlucky", "good"])
    assert [body for body, _ in error.value.refused] == ["bad"]
    assert sorted(sqs.accepted) == ["good", "unlucky"]
    assert len(sqs.calls) == 2


def test_what_was_sent_before_a_refusal_stays_sent() -> None:
    sqs = FakeSqs({"10": [FORBIDDEN]})
    with pytest.raises(NotAccepted):
        send_all(sqs.client, "queue", [f"{number}" for number in range(30)])
    assert sqs.accepted[:10] == [f"{number}" for number in range(10)]
    assert "20" not in sqs.accepted


class TestAnOffer:
    def test_of_valid_messages_leaves_nothing(self) -> None:
        sqs = FakeSqs()
        assert offer_all(sqs.client, "queue", [f"{number}" for number in range(11)]) == []
        assert sqs.accepted == [f"{number}" for number in range(11)]
        assert len(sqs.calls) == 2

    def test_continues_after_invalid_messages_that_sqs_refuses(self) -> None:
        sqs = FakeSqs({"3": [FORBIDDEN], "12": [FORBIDDEN]})
        refused = offer_all(sqs.client, "queue", [f"{number}" for number in range(15)])
        assert refused == [(body, "InvalidMessageContents: unheard of") for body in ("3", "12")]
        assert len(sqs.accepted) == 13

    def test_is_repeated_for_failures_inside_a_200(self) -> None:
        sqs = FakeSqs({"bad": [FORBIDDEN], "unlucky": [OUTAGE, OUTAGE]})
        assert [body for body, _ in offer_all(sqs.client, "queue", ["good", "bad", "unlucky"])] == ["bad"]
        assert sqs.bodies_per_call == [["good", "bad", "unlucky"], ["unlucky"], ["unlucky"]]

    def test_of_messages_that_always_fail_is_an_error(self) -> None:
        sqs = FakeSqs({"unlucky": [OUTAGE] * 2, "bad": [FORBIDDEN]})
        with pytest.raises(NotAccepted) as error:
            offer_all(sqs.client, "queue", ["bad", "unlucky"], attempts=2)
        assert [body for body, _ in error.value.refused] == ["unlucky"]

    @pytest.mark.parametrize(
        "code",
        [
            "BatchRequestTooLong",
            "AWS.SimpleQueueService.BatchRequestTooLong",
            "InvalidMessageContents",
            "InvalidParameterValue",
        ],
    )
    def test_that_is_refused_as_a_whole_for_one_message_is_made_message_by_message(self, code: str) -> None:
        sqs = FakeSqs(fatal={"bad": code})
        ((body, reason),) = offer_all(sqs.client, "queue", ["a", "bad", "b"])
        assert body == "bad"
        assert code in reason
        assert "not like this" in reason
        assert sqs.accepted == ["a", "b"]

    @pytest.mark.parametrize("code", ["AccessDenied", "QueueDoesNotExist", "ThrottlingException", "MissingParameter"])
    def test_that_is_refused_for_any_other_reason_is_an_error_and_costs_no_message(self, code: str) -> None:
        sqs = FakeSqs(fatal={"a": code})
        with pytest.raises(ServiceUnavailable, match=code):
            offer_all(sqs.client, "queue", ["a"])
        assert len(sqs.calls) == 1


def test_tasks_are_sent_as_the_queue_takes_them() -> None:
    sqs = FakeSqs()
    tasks = [PlainTask("t-1", "uploads", "a.jpg"), PlainTask("t-2", "uploads", "b.jpg", version_id="v7")]
    assert submit_tasks(sqs.client, "queue", tasks) == 2
    assert [json.loads(body) for body in sqs.accepted] == [
        {"task_id": "t-1", "bucket": "uploads", "key": "a.jpg"},
        {"task_id": "t-2", "bucket": "uploads", "key": "b.jpg", "version_id": "v7"},
    ]


SECONDS = st.floats(0.001, 1e6)


@given(attempt=st.integers(1, 10_000), base=SECONDS, longest=SECONDS)
def test_a_wait_stays_inside_its_bounds(attempt: int, base: float, longest: float) -> None:
    wait = backoff(attempt, base=base, longest=longest)
    assert min(base / 2, longest) <= wait <= longest


@given(attempt=st.integers(1, 6))
def test_the_bound_doubles_with_every_attempt(attempt: int) -> None:
    assert all(backoff(attempt, base=10, longest=900) <= 10 * 2 ** (attempt - 1) for _ in range(20))
    assert max(backoff(attempt, base=10, longest=900) for _ in range(200)) > 10 * 2 ** (attempt - 1) * 0.75
