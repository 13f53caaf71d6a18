"""A real RabbitMQ and the poller, with a fake of the function: no stack, no emulator."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest

from local.config import LaptopError, LocalConfig
from local.emulators import mq_poller, rabbitmq
from local.emulators.processes import check_free
from local.emulators.rabbitmq import BrokerMessage, publish, queue_depths
from local.outcomes import poll
from operations.errors import OperationsError
from operations.rabbitmq_queues import QUEUES, dead_letter_queue, declare_queues, open_channel, redrive_queue
from tests.ports import listening

_FUNCTION = "relay"


@pytest.fixture(scope="module")
def config(make_config: Callable[[str], LocalConfig]) -> Iterator[LocalConfig]:
    config = make_config("test-rabbitmq")
    rabbitmq.start(config)
    declare_queues(config.rabbitmq_url)
    yield config
    mq_poller.stop(config)
    rabbitmq.stop(config)


@pytest.fixture
def broker(config: LocalConfig) -> LocalConfig:
    """The broker with empty queues."""
    with open_channel(config.rabbitmq_url) as channel:
        for queue in queue_depths(config):
            channel.queue_purge(queue)
    return config


class FakeLambda:
    """Answers invocations as Lambda does, and notes the events that a function took or failed at."""

    def __init__(self, config: LocalConfig) -> None:
        self.taken: list[dict[str, Any]] = []
        self.failed: list[dict[str, Any]] = []
        self.failing = Event()
        lambda_ = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                failing = lambda_.failing.is_set()
                assert self.path == f"/2015-03-31/functions/{_FUNCTION}/invocations"
                assert self.headers.get("X-Amz-Invocation-Type", "RequestResponse") == "RequestResponse"
                self.send_response(200)
                if failing:
                    self.send_header("X-Amz-Function-Error", "Unhandled")
                body = b'{"errorType": "QueueIsAway"}' if failing else b"null"
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                (lambda_.failed if failing else lambda_.taken).append(event)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", config.port), Handler)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _bodies(events: Sequence[dict[str, Any]]) -> list[tuple[str, bool]]:
    """The body of each delivered message, and whether it was delivered for the first time."""
    return [
        (base64.b64decode(message["data"]).decode(), not message["redelivered"])
        for event in events
        for messages in event["rmqMessagesByQueue"].values()
        for message in messages
    ]


@pytest.fixture
def lambda_(broker: LocalConfig) -> Iterator[FakeLambda]:
    fake = FakeLambda(broker)
    yield fake
    fake.stop()


@pytest.fixture
def poller(broker: LocalConfig, lambda_: FakeLambda) -> Iterator[LocalConfig]:
    mq_poller.start(broker, _FUNCTION, "eu-central-1")
    yield broker
    mq_poller.stop(broker)


def _messages(*bodies: str) -> list[BrokerMessage]:
    return [BrokerMessage(body.encode()) for body in bodies]


def _wait(until: Callable[[], bool], what: str) -> None:
    assert poll(until, bool, seconds=180, every=0.05), f"{what} did not happen"


def _depths(config: LocalConfig) -> dict[str, int]:
    return {queue: count for queue, count in queue_depths(config).items() if count}


def _take(config: LocalConfig, queue: str) -> list[tuple[str, dict[str, Any]]]:
    """Empty a queue; return the body and headers of each message."""
    with open_channel(config.rabbitmq_url) as channel:
        taken = []
        while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
            assert got[1] is not None
            assert got[2] is not None
            taken.append((got[2].decode(), dict(got[1].headers or {})))
        return taken


class TestBroker:
    def test_listens_only_on_the_loopback_address(self, broker: LocalConfig) -> None:
        process = rabbitmq.running(broker)
        assert process is not None
        ports = (broker.rabbitmq_port, broker.rabbitmq_node_port)
        assert listening([process]) == {("127.0.0.1", port) for port in ports}

    def test_declaring_queues_again_changes_nothing(self, broker: LocalConfig) -> None:
        publish(broker.rabbitmq_url, "orders", _messages("one"))
        declare_queues(broker.rabbitmq_url)
        assert _depths(broker) == {"orders": 1}

    def test_a_queue_with_other_properties_is_not_changed(self, broker: LocalConfig) -> None:
        # given a queue that somebody declared otherwise
        with open_channel(broker.rabbitmq_url) as channel:
            channel.queue_declare("others", durable=True, arguments={"x-queue-type": "classic"})
        publish(broker.rabbitmq_url, "others", _messages("one"))
        # when
        with pytest.raises(OperationsError, match=r"Queue others exists .* 'x-"):
            declare_queues(broker.rabbitmq_url, ["others"])
        # then
        assert [body for body, _ in _take(broker, "others")] == ["one"]
        with open_channel(broker.rabbitmq_url) as channel:
            channel.queue_delete("others")

    def test_a_message_for_no_queue_is_not_confirmed(self, broker: LocalConfig) -> None:
        with pytest.raises(LaptopError, match="no queue nowhere"):
            publish(broker.rabbitmq_url, "nowhere", _messages("one"))

    def test_confirmed_messages_survive_a_restart(self, broker: LocalConfig) -> None:
        # given
        message = BrokerMessage(b"one", message_id="m-1", content_encoding="identity", headers={"producer": "shop"})
        assert publish(broker.rabbitmq_url, "image-tasks", [message, *_messages("two", "three")]) == 3
        # when
        rabbitmq.restart(broker)
        # then
        _wait(lambda: _depths(broker) == {"image-tasks": 3}, "What was confirmed")
        taken = _take(broker, "image-tasks")
        assert [body for body, _ in taken] == ["one", "two", "three"]
        assert taken[0][1]["producer"] == "shop"

    def test_repeated_failures_are_dead_lettered_until_a_redrive(self, broker: LocalConfig) -> None:
        # given a queue that gives up early
        declare_queues(broker.rabbitmq_url, ["fragile"], delivery_limit=2)
        publish(broker.rabbitmq_url, "fragile", [BrokerMessage(b"one", message_id="m-1")])
        # when
        with open_channel(broker.rabbitmq_url) as channel:

            def failed() -> bool:
                method, _, _ = channel.basic_get("fragile")
                if method is None or method.delivery_tag is None:
                    return False
                channel.basic_nack(method.delivery_tag)
                return True

            for _ in range(3):
                _wait(failed, "A delivery")
        # then
        _wait(lambda: redrive_queue(broker.rabbitmq_url, "fragile") == 1, "The dead letter")
        ((body, headers),) = _take(broker, "fragile")
        assert body == "one"
        assert headers["x-death"][0]["reason"] == "delivery_limit"
        assert redrive_queue(broker.rabbitmq_url, "fragile") == 0
        with open_channel(broker.rabbitmq_url) as channel:
            for queue in ("fragile", dead_letter_queue("fragile")):
                channel.queue_delete(queue)


class TestPoller:
    def test_delivers_and_acknowledges(self, poller: LocalConfig, lambda_: FakeLambda) -> None:
        for queue in QUEUES:
            publish(poller.rabbitmq_url, queue, _messages(f"{queue} 1", f"{queue} 2"))
        _wait(lambda: len(_bodies(lambda_.taken)) == 4, "The delivery")
        # then both queues came, each in events of its own, and nothing comes back from a poller that is gone
        assert {tuple(event["rmqMessagesByQueue"]) for event in lambda_.taken} == {("image-tasks::/",), ("orders::/",)}
        assert sorted(_bodies(lambda_.taken)) == [(f"{queue} {number}", True) for queue in QUEUES for number in (1, 2)]
        assert mq_poller.stop(poller)
        assert _depths(poller) == {}

    def test_delivers_a_whole_batch_again_until_the_function_succeeds(
        self, poller: LocalConfig, lambda_: FakeLambda
    ) -> None:
        # given a function that fails
        lambda_.failing.set()
        publish(poller.rabbitmq_url, "orders", _messages("1", "2", "3"))
        _wait(lambda: ("3", True) in _bodies(lambda_.failed), "The delivery")
        # when
        lambda_.failing.clear()
        _wait(lambda: len(_bodies(lambda_.taken)) == 3, "The redelivery")
        # then
        assert [body for body, first in _bodies(lambda_.failed) if first] == ["1", "2", "3"]
        assert sorted(_bodies(lambda_.taken)) == [("1", False), ("2", False), ("3", False)]
        assert mq_poller.stop(poller)
        assert _depths(poller) == {}

    def test_survives_a_restart_of_the_broker(self, poller: LocalConfig, lambda_: FakeLambda) -> None:
        process = mq_poller.running(poller)
        rabbitmq.restart(poller)
        publish(poller.rabbitmq_url, "orders", _messages("1"))
        _wait(lambda: _bodies(lambda_.taken) == [("1", True)], "The delivery")
        assert mq_poller.running(poller) == process

    def test_keeps_messages_on_the_queue_while_lambda_is_away(self, poller: LocalConfig, lambda_: FakeLambda) -> None:
        # given
        lambda_.stop()
        publish(poller.rabbitmq_url, "orders", _messages("1"))
        log = poller.logs / "mq-poller.log"
        _wait(lambda: "to be delivered again" in log.read_text(), "The attempt")
        # when
        back = FakeLambda(poller)
        # then
        try:
            _wait(lambda: _bodies(back.taken) == [("1", False)], "The delivery")
        finally:
            back.stop()

    def test_leaves_no_process_when_stopped(self, poller: LocalConfig) -> None:
        process = mq_poller.running(poller)
        assert process is not None
        assert mq_poller.stop(poller)
        assert not process.is_running()
        assert not [path for path in poller.folder.iterdir() if path.name.startswith("mq-poller")]
        assert not mq_poller.stop(poller)


def test_a_stopped_broker_leaves_no_process(broker: LocalConfig) -> None:
    # given
    process = rabbitmq.running(broker)
    assert process is not None
    family = [process, *process.children(recursive=True)]
    # when
    assert rabbitmq.stop(broker)
    # then
    assert not any(member.is_running() for member in family)
    assert not rabbitmq.stop(broker)
    for port in (broker.rabbitmq_port, broker.rabbitmq_node_port):
        check_free(port)
    assert {path.name for path in broker.folder.iterdir()} <= {"logs", "start.json"}
