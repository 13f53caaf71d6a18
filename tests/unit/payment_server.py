"""Payment providers for tests: localstripe, and one that misbehaves.

The latter has the part of Stripe's API that Darkroom uses, without idempotency keys: it carries out a repeated request
again, as far as the payment's state allows, as Stripe does after a day.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, RLock, Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from local.config import LaptopError, LocalConfig
from local.emulators import payments
from tests.ports import free_port

KEY = "sk_test_misbehaving"


class Dropped(Exception):
    """The connection must break."""


@dataclass(frozen=True)
class Trouble:
    """What goes wrong with one request.

    ``status`` and ``error`` are answered; without a status the connection breaks. ``done``: the request is carried out
    all the same. ``late``: it takes longer than any client waits.
    """

    status: int = 0
    error: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    done: bool = False
    late: bool = False


@dataclass(frozen=True)
class Asked:
    """One request. ``what``: open, look, confirm, cancel or refund."""

    what: str
    payment_id: str
    headers: dict[str, str]
    parameters: dict[str, str]


@dataclass
class PaymentServer:
    """``payments`` as Stripe shows them; ``charges`` and ``refunds`` count by payment what the bank was asked for.

    ``troubles``: the faults of the next requests of each kind, in this order; later ones succeed.
    """

    url: str = ""
    keys: set[str] = field(default_factory=lambda: {KEY})
    payments: dict[str, dict[str, Any]] = field(default_factory=dict)
    charges: Counter[str] = field(default_factory=Counter)
    refunds: Counter[str] = field(default_factory=Counter)
    troubles: defaultdict[str, deque[Trouble]] = field(default_factory=lambda: defaultdict(deque))
    requests: list[Asked] = field(default_factory=list)
    ends: Event = field(default_factory=Event)
    lock: RLock = field(default_factory=RLock)

    def asked(self, what: str) -> list[Asked]:
        return [request for request in self.requests if request.what == what]

    def idempotency_keys(self, what: str) -> list[str]:
        return [request.headers["idempotency-key"] for request in self.asked(what)]

    def answer(self, asked: Asked) -> tuple[int, dict[str, Any], dict[str, str]]:
        with self.lock:
            self.requests.append(asked)
            key = asked.headers["authorization"].removeprefix("Bearer ")
            if key not in self.keys:
                return 401, {"error": {"message": f"Invalid API Key provided: {key}"}}, {}
            trouble = self.troubles[asked.what].popleft() if self.troubles[asked.what] else None
            if trouble is None or trouble.done:
                status, body = self._do(asked)
        if trouble is None:
            return status, body, {}
        if trouble.late:
            self.ends.wait()
        if not trouble.status:
            raise Dropped
        return trouble.status, {"error": trouble.error}, trouble.headers

    def _do(self, asked: Asked) -> tuple[int, dict[str, Any]]:
        if asked.what == "open":
            return 200, self._open(int(asked.parameters["amount"]))
        payment = self.payments.get(asked.payment_id)
        if payment is None:
            return 404, {"error": {"code": "resource_missing", "message": f"No such payment: {asked.payment_id}"}}
        match asked.what, payment["status"]:
            case "look", _:
                pass
            case "confirm", "requires_confirmation":
                self.charges[asked.payment_id] += 1
                charge = {"id": "ch_1", "object": "charge", "amount": payment["amount"], "amount_refunded": 0}
                payment |= {"status": "succeeded", "latest_charge": charge}
            case "cancel", "requires_confirmation" | "requires_payment_method" | "requires_action":
                payment["status"] = "canceled"
            case "refund", "succeeded":
                charge = payment["latest_charge"]
                if charge["amount_refunded"] == charge["amount"]:
                    return 400, {"error": {"code": "charge_already_refunded", "message": "Already refunded."}}
                self.refunds[asked.payment_id] += 1
                charge["amount_refunded"] = charge["amount"]
                return 200, {"id": "re_1", "object": "refund", "status": "succeeded"}
            case _, status:
                message = f"You cannot {asked.what} this PaymentIntent because it has a status of {status}."
                return 400, {"error": {"code": "payment_intent_unexpected_state", "message": message}}
        return 200, payment

    def _open(self, amount: int) -> dict[str, Any]:
        payment_id = f"pi_{len(self.payments) + 1}"
        self.payments[payment_id] = {
            "id": payment_id,
            "object": "payment_intent",
            "status": "requires_confirmation",
            "amount": amount,
            "latest_charge": None,
            "last_payment_error": None,
        }
        return self.payments[payment_id]


def _asked(path: str, headers: dict[str, str], parameters: dict[str, str]) -> Asked:
    match path.split("/")[2:]:
        case ["payment_intents"]:
            return Asked("open", "", headers, parameters)
        case ["payment_intents", payment_id]:
            return Asked("look", payment_id, headers, parameters)
        case ["payment_intents", payment_id, what]:
            return Asked(what, payment_id, headers, parameters)
        case ["refunds"]:
            return Asked("refund", parameters["payment_intent"], headers, parameters)
    raise ValueError(path)


@contextmanager
def misbehaving_server() -> Iterator[PaymentServer]:
    """Serve on a free port of the loopback address until the end of the block; then nothing of it is left."""
    provider = PaymentServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # its name in http.server
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                status, answer, more = provider.answer(_asked(urlsplit(self.path).path, headers, dict(parse_qsl(body))))
                content = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **more}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
            except (Dropped, OSError):  # the latter: the client has gone
                self.close_connection = True

        do_GET = do_POST  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider.url = f"http://127.0.0.1:{server.server_port}"
        server.daemon_threads = False  # closing it waits for them
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield provider
        finally:
            provider.ends.set()
            server.shutdown()
            thread.join()


@contextmanager
def localstripe(folder: Path) -> Iterator[str]:
    """Run localstripe on a free port until the end of the block; yields its URL."""
    config = _start_localstripe(folder)
    try:
        yield config.payments_url
    finally:
        payments.stop(config)


def _start_localstripe(folder: Path, attempts: int = 5) -> LocalConfig:
    config = LocalConfig(folder, free_port() - 2)  # so that this is the port of payments
    try:
        payments.start(config)
    except LaptopError:
        if attempts == 1:
            raise
        return _start_localstripe(folder, attempts - 1)  # another test run was quicker to take the port
    return config
