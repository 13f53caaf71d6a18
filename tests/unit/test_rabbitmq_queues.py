"""The command that declares queues: where it sends the password, and what it declares."""

from __future__ import annotations

import gc
import io
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec
from pika.exceptions import ChannelClosedByBroker
from rich.console import Console

from operations import rabbitmq_queues
from operations.errors import OperationsError
from operations.rabbitmq_queues import (
    DEAD_LETTER_EXCHANGE,
    QUEUES,
    arguments_of,
    connection_parameters,
    declare_queues,
    open_channel,
)

_CONTEXT = ssl.create_default_context()


class FakeChannel:
    """Notes what is declared; refuses one queue."""

    def __init__(self, refused: str = "", code: int = 406) -> None:
        self.queues: dict[str, dict[str, Any]] = {}
        self.bindings: list[tuple[str, str, str]] = []
        self.exchanges: list[tuple[str, str, bool]] = []
        self._refused = refused
        self._code = code

    def exchange_declare(self, exchange: str, exchange_type: str, *, durable: bool) -> None:
        self.exchanges.append((exchange, exchange_type, durable))

    def queue_declare(self, queue: str, *, durable: bool, arguments: dict[str, Any]) -> None:
        if queue == self._refused:
            raise ChannelClosedByBroker(self._code, "inequivalent arg 'x-queue-type'")
        assert durable
        self.queues[queue] = arguments

    def queue_bind(self, queue: str, exchange: str, *, routing_key: str) -> None:
        self.bindings.append((queue, exchange, routing_key))


@pytest.fixture
def urls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The brokers that were connected to."""
    connected: list[str] = []

    @contextmanager
    def open_channel(url: str) -> Iterator[FakeChannel]:
        connected.append(url)
        yield FakeChannel()

    monkeypatch.setattr(rabbitmq_queues, "open_channel", open_channel)
    return connected


def _declare_on(channel: FakeChannel, monkeypatch: pytest.MonkeyPatch) -> None:
    class Connection:
        def __init__(self, parameters: Any) -> None:
            pass

        def __enter__(self) -> Connection:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def channel(self) -> FakeChannel:
            return channel

    monkeypatch.setattr(pika, "BlockingConnection", Connection)
    declare_queues("amqp://guest:guest@localhost")


class TestConnection:
    @pytest.mark.parametrize("query", ["", "?ssl_options={'capath': '/', 'server_hostname': 'another.example'}"])
    def test_is_always_verified(self, query: str) -> None:
        options = connection_parameters(f"amqps://user:password@broker.example:5671/{query}").ssl_options
        assert options is not None
        assert options.server_hostname == "broker.example"
        assert options.context.verify_mode is ssl.CERT_REQUIRED
        assert options.context.check_hostname

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
    def test_is_unencrypted_on_the_loopback_address(self, host: str) -> None:
        assert connection_parameters(f"amqp://guest:guest@{host}:4569").ssl_options is None

    @pytest.mark.parametrize("host", ["broker.example", "10.0.0.1", "localhost.example"])
    def test_is_encrypted_elsewhere(self, host: str) -> None:
        with pytest.raises(OperationsError, match="in clear"):
            connection_parameters(f"amqp://guest:guest@{host}")

    @pytest.mark.parametrize("url", ["ftp://user:s3cret@host", "amqps://user:s3cret@host:port", "amqps://user@host"])
    def test_to_an_invalid_address_says_so_without_the_password(self, url: str) -> None:
        with pytest.raises(OperationsError, match="The URL is not an AMQP URL") as raised:
            connection_parameters(url)
        assert "s3cret" not in str(raised.value)

    def test_to_a_broker_that_stops_leaves_no_socket_open(self) -> None:
        # given a broker that accepts the connection and closes it in the same breath
        with socket.create_server(("127.0.0.1", 0)) as server:
            broker = Thread(target=_accept_and_close, args=(server,))
            broker.start()
            # when
            with (
                pytest.raises(OperationsError, match="No connection to the broker"),
                open_channel(f"amqp://user:password@127.0.0.1:{server.getsockname()[1]}"),
            ):
                pytest.fail("It is not connected.")
            broker.join()
        # then Python does not warn of one, which is an error here
        gc.collect()


def _accept_and_close(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        for methods in (
            [spec.Connection.Start(server_properties={}, mechanisms="PLAIN", locales="en_US")],
            [spec.Connection.Tune(channel_max=10, frame_max=131_072, heartbeat=0)],
            [spec.Connection.OpenOk(), spec.Connection.Close(320, "CONNECTION_FORCED", 0, 0)],
        ):
            connection.recv(4096)
            connection.sendall(b"".join(frame.Method(0, method).marshal() for method in methods))
        connection.recv(4096)


class TestDeclaring:
    def test_gives_every_queue_a_dead_letter_queue(self, monkeypatch: pytest.MonkeyPatch) -> None:
        channel = FakeChannel()
        _declare_on(channel, monkeypatch)
        assert channel.exchanges == [(DEAD_LETTER_EXCHANGE, "direct", True)]
        assert list(channel.queues) == ["image-tasks.dead-letters", "image-tasks", "orders.dead-letters", "orders"]
        for queue in ("image-tasks", "orders"):
            arguments = channel.queues[queue]
            assert arguments["x-queue-type"] == "quorum"
            route = (
                f"{queue}.dead-letters",
                arguments["x-dead-letter-exchange"],
                arguments["x-dead-letter-routing-key"],
            )
            assert route in channel.bindings

    @pytest.mark.usefixtures("urls")
    def test_prints_the_calls_for_a_producer_that_declares_the_queues_itself(self) -> None:
        # given
        said, channel = io.StringIO(), FakeChannel()
        assert declare("amqp://guest:guest@localhost", said) == 0
        calls = [line for line in said.getvalue().splitlines() if line.startswith("channel.queue_declare(")]
        # when a producer copies them, or the example of the documentation
        for call in calls:
            exec(call, {"channel": channel})  # noqa: S102
        example = Path("docs/rabbitmq.md").read_text().partition("```python\n")[2].partition("```")[0]
        documented = FakeChannel()
        exec(example, {"channel": documented})  # noqa: S102
        # then the broker finds the same arguments
        assert channel.queues == {queue: arguments_of(queue) for queue in QUEUES}
        assert documented.queues == {"orders": arguments_of("orders")}

    def test_reports_the_differences_of_an_existing_queue(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(OperationsError, match=r"Queue orders exists .* was not changed: inequivalent arg"):
            _declare_on(FakeChannel(refused="orders"), monkeypatch)

    def test_reports_other_refusals_of_the_broker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(OperationsError, match="RabbitMQ refuses: inequivalent"):
            _declare_on(FakeChannel(refused="orders", code=403), monkeypatch)


def declare(url: str, said: io.StringIO | None = None) -> int:
    return rabbitmq_queues.run(url, QUEUES, Console(file=said or io.StringIO()), redrive=False)


class TestPassword:
    @pytest.fixture(autouse=True)
    def _no_password(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RABBITMQ_PASSWORD", raising=False)

    def test_comes_from_the_environment(self, monkeypatch: pytest.MonkeyPatch, urls: list[str]) -> None:
        monkeypatch.setenv("RABBITMQ_PASSWORD", "p@ss/word")
        said = io.StringIO()
        assert declare("amqps://user@broker.example:5671", said) == 0
        assert urls == ["amqps://user:p%40ss%2Fword@broker.example:5671"]
        assert "orders.dead-letters" in said.getvalue()
        assert "word" not in said.getvalue()

    def test_comes_from_the_standard_input(self, monkeypatch: pytest.MonkeyPatch, urls: list[str]) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("secret\nmore\n"))
        declare("amqps://user@broker.example/vhost")
        assert urls == ["amqps://user:secret@broker.example/vhost"]

    def test_may_be_in_the_url_only_for_this_machine(self, urls: list[str]) -> None:
        declare("amqp://guest:guest@localhost")
        assert urls == ["amqp://guest:guest@localhost"]
        with pytest.raises(OperationsError, match="RABBITMQ_PASSWORD"):
            declare("amqps://user:secret@broker.example")

    @pytest.mark.parametrize("url", ["", "broker.example", "https://broker.example"])
    def test_is_not_requested_without_a_broker(self, url: str, urls: list[str]) -> None:
        with pytest.raises(OperationsError, match="Where is the broker"):
            declare(url)
        assert urls == []

    @given(password=st.text(st.characters(codec="utf-8", exclude_characters="\n\0"), min_size=1))
    def test_may_contain_any_character(self, password: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ssl, "create_default_context", lambda: _CONTEXT)  # reading all certificates takes a while
            patch.setattr("sys.stdin", io.StringIO(password, newline="\n"))
            parameters = connection_parameters(rabbitmq_queues._with_password("amqps://us%40er@broker.example"))
        assert isinstance(parameters.credentials, pika.PlainCredentials)
        assert (parameters.credentials.username, parameters.credentials.password) == ("us@er", password)
