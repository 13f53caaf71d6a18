"""The poller: its events, its batches, and what happens to a batch that fails."""

from __future__ import annotations

import base64
import io
import json
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

import boto3
import pika
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st
from pika.exceptions import StreamLostError
from pika.spec import Basic, BasicProperties

from local.emulators.mq_poller import Delivery, InvocationFailed, Poller, batches, invoking, record

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

_ARN = "arn:aws:mq:us-west-2:112556298976:broker:test:b-9bcfa592-423a-4942-879d-eb284b418fc8"


class FakeChannel:
    """A queue with one consumer; sets ``stopping`` once nothing is left on it and nothing is held."""

    def __init__(self, bodies: Sequence[bytes], stopping: Event) -> None:
        self._waiting = deque((body, False) for body in bodies)
        self._held: dict[int, bytes] = {}
        self._stopping = stopping
        self._prefetch = 0
        self._tag = 0
        self.acknowledged: list[bytes] = []
        self.dead: list[bytes] = []

    @property
    def left(self) -> list[bytes]:
        """The messages that the next consumer would get."""
        return [*self._held.values(), *(body for body, _ in self._waiting)]

    def basic_qos(self, *, prefetch_count: int) -> None:
        self._prefetch = prefetch_count

    def consume(self, queue: str, *, inactivity_timeout: float) -> Iterator[tuple[Any, Any, Any]]:
        while True:
            if self._waiting and len(self._held) < self._prefetch:
                body, redelivered = self._waiting.popleft()
                self._tag += 1
                self._held[self._tag] = body
                yield Basic.Deliver(delivery_tag=self._tag, redelivered=redelivered), BasicProperties(), body
            else:
                if not self._held:
                    self._stopping.set()
                yield None, None, None

    def basic_ack(self, delivery_tag: int, *, multiple: bool) -> None:
        self.acknowledged += self._settle(delivery_tag, multiple)

    def basic_nack(self, delivery_tag: int, *, multiple: bool, requeue: bool) -> None:
        bodies = self._settle(delivery_tag, multiple)
        if requeue:
            self._waiting.extendleft((body, True) for body in reversed(bodies))
        else:
            self.dead += bodies

    def _settle(self, tag: int, multiple: bool) -> list[bytes]:
        return [self._held.pop(t) for t in sorted(self._held) if t == tag or (multiple and t < tag)]


class Invoked:
    """A function that fails the first times, and what it was given."""

    def __init__(self, failures: int = 0) -> None:
        self.events: list[dict[str, Any]] = []
        self._failures = failures

    def __call__(self, event: str) -> None:
        self.events.append(json.loads(event))
        if len(self.events) <= self._failures:
            raise InvocationFailed("the queue is away")

    @property
    def batches(self) -> list[list[tuple[bytes, bool]]]:
        """Body and `redelivered` of each message of each event."""
        return [
            [(base64.b64decode(message["data"]), message["redelivered"]) for message in messages]
            for event in self.events
            for messages in event["rmqMessagesByQueue"].values()
        ]


def _poller(invoke: Callable[[str], None], stopping: Event, **settings: Any) -> Poller:
    # A window without end: what is gathered is no matter of time.
    settings = {"window": math.inf, "pauses": [0.0], **settings}
    return Poller(_ARN, "/", "test", invoke, Event(), stopping, **settings)


def _read(bodies: Sequence[bytes], invoke: Invoked, **settings: Any) -> FakeChannel:
    stopping = Event()
    channel = FakeChannel(bodies, stopping)
    _poller(invoke, stopping, **settings).read(channel)
    return channel


def _from_the_wire(properties: BasicProperties) -> BasicProperties:
    """As they come out of a connection."""
    decoded = BasicProperties()
    decoded.decode(b"".join(properties.encode()))
    return decoded


class TestEvent:
    def test_is_the_one_of_the_documentation(self) -> None:
        # given the message behind the example of https://docs.aws.amazon.com/lambda/latest/dg/with-mq.html
        body = b'{"timeout":0,"data":"CZrmf0Gw8Ov4bqLQxD4E"}'
        properties = BasicProperties(
            content_type="text/plain",
            headers={"header1": "value1", "header2": "value2", "numberInHeader": 10},
            delivery_mode=1,
            priority=34,
            expiration="60000",
            timestamp=2021,
            user_id="AIDACKCEVSQ6C2EXAMPLE",
        )
        described = record(Basic.Deliver(delivery_tag=1), _from_the_wire(properties), body)
        invoked = Invoked()
        # when
        event = json.loads(_poller(invoked, Event())._event([Delivery(1, json.dumps(described))]))
        # then; the example's bodySize of 80 is not that of its data
        assert event == {
            "eventSource": "aws:rmq",
            "eventSourceArn": _ARN,
            "rmqMessagesByQueue": {
                "test::/": [
                    {
                        "basicProperties": {
                            "contentType": "text/plain",
                            "contentEncoding": None,
                            "headers": {
                                "header1": {"bytes": [118, 97, 108, 117, 101, 49]},
                                "header2": {"bytes": [118, 97, 108, 117, 101, 50]},
                                "numberInHeader": 10,
                            },
                            "deliveryMode": 1,
                            "priority": 34,
                            "correlationId": None,
                            "replyTo": None,
                            "expiration": "60000",
                            "messageId": None,
                            "timestamp": "Jan 1, 1970, 12:33:41 AM",
                            "type": None,
                            "userId": "AIDACKCEVSQ6C2EXAMPLE",
                            "appId": None,
                            "clusterId": None,
                            "bodySize": len(body),
                        },
                        "redelivered": False,
                        "data": "eyJ0aW1lb3V0IjowLCJkYXRhIjoiQ1pybWYwR3c4T3Y0YnFMUXhENEUifQ==",
                    }
                ]
            },
        }

    def test_of_a_message_without_properties_has_null_for_each(self) -> None:
        described = record(Basic.Deliver(redelivered=True), _from_the_wire(BasicProperties()), b"")
        properties = described["basicProperties"]
        assert properties.pop("bodySize") == 0
        assert len(properties) == 14
        assert set(properties.values()) == {None}
        assert (described["redelivered"], described["data"]) == (True, "")

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("é", {"bytes": [-61, -87]}),  # Java's bytes have a sign
            (b"\xff\x00", {"bytes": [-1, 0]}),
            (True, True),
            (-7, -7),
            (2**40, 2**40),
            (Decimal("1.25"), 1.25),
            (None, None),
            (datetime(2026, 11, 5, 13, 0, 9, tzinfo=UTC), "Nov 5, 2026, 1:00:09 PM"),
            ([{"queue": "orders", "count": 2}], [{"queue": {"bytes": [*b"orders"]}, "count": 2}]),
        ],
    )
    def test_headers(self, value: Any, expected: Any) -> None:
        properties = _from_the_wire(BasicProperties(headers={"header": value}))
        assert record(Basic.Deliver(), properties, b"")["basicProperties"]["headers"] == {"header": expected}

    @pytest.mark.parametrize(("value", "expected"), [(0.5, 0.5), (math.nan, None), (-math.inf, None)])
    def test_headers_that_pika_reads_but_does_not_write(self, value: float, expected: float | None) -> None:
        headers: Any = {"header": value}
        properties = BasicProperties(headers=headers)
        assert record(Basic.Deliver(), properties, b"")["basicProperties"]["headers"] == {"header": expected}

    @pytest.mark.parametrize(
        ("timestamp", "expected"),
        [
            (0, "Jan 1, 1970, 12:00:00 AM"),
            (43_200, "Jan 1, 1970, 12:00:00 PM"),
            (1_763_822_400_000, "Apr 23, 57863, 2:40:00 AM"),  # milliseconds by mistake
        ],
    )
    def test_timestamps(self, timestamp: int, expected: str) -> None:
        properties = _from_the_wire(BasicProperties(timestamp=timestamp))
        assert record(Basic.Deliver(), properties, b"")["basicProperties"]["timestamp"] == expected

    @given(timestamp=st.integers(0, 253_402_300_799))
    def test_any_timestamp_can_be_read_back(self, timestamp: int) -> None:
        written = record(Basic.Deliver(), BasicProperties(timestamp=timestamp), b"")["basicProperties"]["timestamp"]
        read = datetime.strptime(written, "%b %d, %Y, %I:%M:%S %p").replace(tzinfo=UTC)
        assert int(read.timestamp()) == timestamp

    short = st.none() | st.text(max_size=60)
    scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary()
    headers = st.dictionaries(
        st.text(max_size=20),
        st.recursive(
            scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner), max_leaves=9
        ),
    )

    @given(
        body=st.binary(),
        headers=st.none() | headers,
        texts=st.lists(short, min_size=9, max_size=9),
        delivery_mode=st.sampled_from([None, 1, 2]),
        priority=st.none() | st.integers(0, 255),
    )
    def test_describes_any_message(
        self,
        body: bytes,
        headers: dict[str, Any] | None,
        texts: list[str | None],
        delivery_mode: Literal[1, 2] | None,
        priority: int | None,
    ) -> None:
        # given
        names = ["contentType", "contentEncoding", "correlationId", "replyTo", "expiration", "messageId", "type"]
        names += ["userId", "appId"]
        properties = BasicProperties(
            content_type=texts[0],
            content_encoding=texts[1],
            correlation_id=texts[2],
            reply_to=texts[3],
            expiration=texts[4],
            message_id=texts[5],
            type=texts[6],
            user_id=texts[7],
            app_id=texts[8],
            headers=headers,
            delivery_mode=delivery_mode,
            priority=priority,
        )
        # when
        described = record(Basic.Deliver(), _from_the_wire(properties), body)
        # then it is JSON to the letter, and everything is there
        assert json.loads(json.dumps(described, allow_nan=False)) == described
        assert base64.b64decode(described["data"]) == body
        assert [described["basicProperties"][name] for name in names] == texts
        assert described["basicProperties"]["deliveryMode"] == delivery_mode
        assert described["basicProperties"]["priority"] == priority
        told = described["basicProperties"]["headers"]
        assert (told is None) == (headers is None)
        for name, value in (headers or {}).items():
            if isinstance(value, str | bytes):
                octets = value.encode() if isinstance(value, str) else value
                assert bytes(octet % 256 for octet in told[name]["bytes"]) == octets
            elif isinstance(value, bool | int):
                assert told[name] == value


class TestBatches:
    @staticmethod
    def _gather(
        deliveries: list[Delivery | None], *, size: int = 100, window: float = math.inf, limit: int = 1000
    ) -> list[list[int]]:
        times = iter(range(1000))  # a second passes each time somebody looks
        gathered = batches(deliveries, size=size, window=window, limit=limit, clock=lambda: next(times))
        return [[delivery.tag for delivery in batch] for batch in gathered]

    def test_are_full(self) -> None:
        assert self._gather([Delivery(tag, "{}") for tag in range(7)], size=3) == [[0, 1, 2], [3, 4, 5]]

    def test_wait_no_longer_than_the_window(self) -> None:
        # given a message, silence, and a message; and a window that ends in the silence
        deliveries = [None, None, Delivery(1, "{}"), None, None, None, Delivery(2, "{}"), Delivery(3, "{}")]
        assert self._gather(deliveries, window=3) == [[1]]

    def test_are_limited_by_the_payload_size(self) -> None:
        # given records of 10 bytes, and commas between them
        deliveries: list[Delivery | None] = [Delivery(tag, "0123456789") for tag in range(6)]
        assert self._gather(deliveries, limit=32) == [[0, 1, 2]]
        assert self._gather(deliveries, limit=31) == [[0, 1], [2, 3]]

    @given(lengths=st.lists(st.integers(1, 50)), size=st.integers(1, 10))
    def test_hold_each_message_once_and_in_order(self, lengths: list[int], size: int) -> None:
        deliveries: list[Delivery | None] = [Delivery(tag, "x" * length) for tag, length in enumerate(lengths)]
        # when what is left waits out its window
        gathered = self._gather([*deliveries, None, None], size=size, window=len(lengths) * 3 + 1, limit=120)
        flat = [tag for batch in gathered for tag in batch]
        assert flat == list(range(len(flat)))
        assert all(len(batch) <= size and sum(lengths[tag] + 1 for tag in batch) - 1 <= 120 for batch in gathered)


class TestReading:
    def test_acknowledges_a_processed_batch(self) -> None:
        invoked = Invoked()
        channel = _read([b"1", b"2", b"3", b"4"], invoked, batch_size=2)
        assert invoked.batches == [[(b"1", False), (b"2", False)], [(b"3", False), (b"4", False)]]
        assert channel.acknowledged == [b"1", b"2", b"3", b"4"]

    def test_delivers_a_failed_batch_again_as_a_whole(self) -> None:
        # given a function that fails twice
        invoked = Invoked(failures=2)
        # when
        channel = _read([b"1", b"2", b"3"], invoked, batch_size=3)
        # then
        again = [(b"1", True), (b"2", True), (b"3", True)]
        assert invoked.batches == [[(b"1", False), (b"2", False), (b"3", False)], again, again]
        assert channel.acknowledged == [b"1", b"2", b"3"]
        assert channel.dead == []

    def test_holds_no_more_than_a_batch(self) -> None:
        stopping = Event()
        channel = FakeChannel([b"1", b"2", b"3"], stopping)

        def invoke(event: str) -> None:
            assert len(channel._held) == 2
            stopping.set()

        _poller(invoke, stopping, batch_size=2).read(channel)
        assert channel.acknowledged == [b"1", b"2"]
        assert channel.left == [b"3"]

    def test_drops_a_message_too_large_for_a_payload_and_continues(self) -> None:
        invoked = Invoked()
        channel = _read([b"1", b"x" * 2000, b"2"], invoked, batch_size=2, payload_limit=2000)
        assert invoked.batches == [[(b"1", False), (b"2", False)]]
        assert channel.dead == [b"x" * 2000]
        assert channel.acknowledged == [b"1", b"2"]

    @given(lengths=st.lists(st.integers(0, 900), min_size=1, max_size=20))
    def test_no_payload_is_above_the_limit(self, lengths: list[int]) -> None:
        payloads: list[str] = []
        stopping = Event()
        channel = FakeChannel([b"x" * length for length in lengths], stopping)
        _poller(payloads.append, stopping, window=0.0, payload_limit=1500).read(channel)
        assert all(len(payload.encode()) <= 1500 for payload in payloads)
        assert len(channel.acknowledged) + len(channel.dead) == len(lengths)

    def test_leaves_undelivered_messages_on_the_queue_when_stopped(self) -> None:
        stopping = Event()
        channel = FakeChannel([b"1"], stopping)
        stopping.set()
        _poller(Invoked(), stopping).read(channel)
        assert channel.left == [b"1"]

    def test_survives_an_outage_of_the_broker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # given a broker that comes and goes
        stopping, invoked = Event(), Invoked()
        poller = _poller(invoked, stopping, batch_size=1)
        channel = FakeChannel([b"1"], stopping)
        answers: Iterator[FakeChannel | Exception] = iter([ConnectionRefusedError(), StreamLostError("gone"), channel])

        class Connection:
            def __init__(self, parameters: Any) -> None:
                self._answer = next(answers)

            def __enter__(self) -> Connection:
                return self

            def __exit__(self, *error: object) -> None:
                pass

            def channel(self) -> FakeChannel:
                if isinstance(self._answer, Exception):
                    raise self._answer
                return self._answer

        monkeypatch.setattr(pika, "BlockingConnection", Connection)
        # when
        poller.run(pika.ConnectionParameters())
        # then
        assert channel.acknowledged == [b"1"]


class TestInvoking:
    @pytest.fixture
    def client(self) -> LambdaClient:
        return boto3.client("lambda")

    @pytest.fixture
    def lambda_(self, client: LambdaClient) -> Iterator[Stubber]:
        with Stubber(client) as stub:
            yield stub

    @staticmethod
    def _answer(said: bytes, **more: str) -> dict[str, Any]:
        return {"StatusCode": 200, "Payload": StreamingBody(io.BytesIO(said), len(said)), **more}

    def test_delivers_the_event(self, client: LambdaClient, lambda_: Stubber) -> None:
        lambda_.add_response("invoke", self._answer(b"null"), {"FunctionName": "relay", "Payload": "{}"})
        invoking(client, "relay")("{}")
        lambda_.assert_no_pending_responses()

    def test_a_function_that_fails(self, client: LambdaClient, lambda_: Stubber) -> None:
        lambda_.add_response("invoke", self._answer(b'{"errorType":"KeyError"}', FunctionError="Unhandled"))
        with pytest.raises(InvocationFailed, match="KeyError"):
            invoking(client, "relay")("{}")

    def test_a_function_that_is_busy(self, client: LambdaClient, lambda_: Stubber) -> None:
        lambda_.add_client_error("invoke", "TooManyRequestsException")
        with pytest.raises(InvocationFailed, match="TooManyRequests"):
            invoking(client, "relay")("{}")
