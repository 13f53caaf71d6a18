"""Start localstripe with what it lacks of Stripe (``localstripe_patches``), and with faults on demand.

Runs in the payment provider's own environment (.local/payments), never in the project's; ``payments.py`` starts it.
In addition to Stripe's API it answers:

    POST   /_config/faults            {"share": 0.1, "seed": 7}: from now on that share of the POSTs to /v1 fails,
                                      in one of the "kinds" if given; and each takes "seconds" longer if given
    GET    /_config/faults            how many failed, by kind
    DELETE /_config/idempotency_keys  forget every key, as Stripe does after a day
"""

from __future__ import annotations

import asyncio
import hmac
import os
import pickle
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aiohttp import BasicAuth, web  # type: ignore[import-not-found] # as localstripe: only in its own environment
from localstripe import resources  # type: ignore[import-not-found]

sys.path.append(str(Path(__file__).parents[2]))
from local.emulators import localstripe_patches
from local.emulators.guard import host_fault, is_from_elsewhere

CHECKED_VERSION = "1.15.10"

Handler = Callable[[web.Request], Awaitable[web.Response]]


@dataclass(frozen=True)
class Answer:
    """The answer under an idempotency key. Status 0: the request is in progress."""

    question: tuple[str, bytes]
    status: int = 0
    body: bytes = b""


class IdempotencyKeys:
    """Idempotency keys as Stripe documents them. Remove this when localstripe reads the header.

    The first answer is saved, even a 500, and returned to every later request with the key.
    https://docs.stripe.com/api/idempotent_requests
    """

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}

    async def answer_once(self, request: web.Request, handler: Handler) -> web.Response:
        """The middleware runs after authentication and rate limiting (401, 429), whose answers are not saved."""
        key = request.headers.get("Idempotency-Key")
        if key is None or request.method != "POST" or not _is_api(request):
            return await handler(request)
        question = (request.path_qs, await request.read())
        known = self.answers.get(key)
        if known and known.question != question:
            message = (
                "Keys for idempotent requests can only be used with the same parameters they were first used with."
            )
            return _error(400, "idempotency_error", message)
        if known and not known.status:
            message = "There is currently another in-progress request using this Idempotent Key."
            return _error(409, "idempotency_error", message, code="idempotency_key_in_use")
        if known:
            return _replay(known)
        self.answers[key] = Answer(question)
        try:
            response = await handler(request)
        except BaseException:
            self.answers.pop(key, None)
            raise
        self.answers[key] = Answer(question, response.status, response.body)
        return response

    async def forget(self, _: web.Request) -> web.Response:
        """Forget every key."""
        self.answers.clear()
        return web.Response()


@dataclass
class Faults:
    """Requests that fail, and how many did. It stays: localstripe does not inject faults."""

    share: float = 0.0
    seconds: float = 0.0
    luck: random.Random = field(default_factory=random.Random)
    kinds: tuple[str, ...] = ()
    counts: Counter[str] = field(default_factory=Counter)
    next_kinds: list[str] = field(default_factory=list)

    ALL_KINDS = ("500 before", "500 after", "dropped before", "dropped after", "429")

    async def on_the_wire(self, request: web.Request, handler: Handler) -> web.Response:
        """The outer middleware: a request or an answer that is lost here may have taken effect."""
        if request.method != "POST" or not _is_api(request) or self.luck.random() >= self.share:
            return await handler(request)
        if not self.next_kinds:
            self.next_kinds = self.luck.sample(self.kinds, len(self.kinds))  # so that all kinds are equally frequent
        request["fault"] = kind = self.next_kinds.pop()
        if kind == "429":
            self.counts[kind] += 1
            return _error(429, "invalid_request_error", "Too many requests hit the API too quickly.", code="rate_limit")
        if kind == "dropped before":
            return self._drop(request, kind)
        response = await handler(request)
        return self._drop(request, kind) if kind == "dropped after" else response

    async def in_the_endpoint(self, request: web.Request, handler: Handler) -> web.Response:
        """The middleware inside the idempotency keys: a 500 is saved, and a replayed request does not reach it."""
        if request.method == "POST" and _is_api(request):
            await asyncio.sleep(self.seconds)
        kind = request.get("fault", "")
        if not kind.startswith("500"):
            return await handler(request)
        if kind == "500 after":
            await handler(request)
        self.counts[kind] += 1
        return _error(500, "api_error", "An unknown error occurred.")

    async def change(self, request: web.Request) -> web.Response:
        """Start again with these faults, or with none."""
        wanted = await request.json()
        self.share, self.seconds = float(wanted.get("share", 0)), float(wanted.get("seconds", 0))
        self.kinds = tuple(wanted.get("kinds") or self.ALL_KINDS)
        self.luck = random.Random(wanted.get("seed"))  # noqa: S311 # guards no secret
        self.counts.clear()
        self.next_kinds.clear()
        return web.Response()

    async def tell(self, _: web.Request) -> web.Response:
        """Answer how many failed, by kind."""
        return web.json_response({kind: self.counts[kind] for kind in self.ALL_KINDS})

    def _drop(self, request: web.Request, kind: str) -> web.Response:
        self.counts[kind] += 1
        if request.transport:
            request.transport.abort()
        return web.Response()  # goes nowhere


async def refuse_live_keys(request: web.Request, handler: Handler) -> web.Response:
    """Answer a key of live mode as Stripe does where all objects are of test mode."""
    key = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not key.startswith(("sk_live_", "rk_live_")) or not _is_api(request):
        return await handler(request)
    opens = str(request.path) == "/v1/payment_intents"
    kind, param = ("PaymentMethod", "payment_method") if opens else ("payment_intent", "intent")
    message = (
        f"No such {kind}: 'x'; a similar object exists in test mode, but a live mode key was used to make this request."
    )
    return _error(404, "invalid_request_error", message, code="resource_missing", param=param)


def _is_api(request: web.Request) -> bool:
    return str(request.path).startswith("/v1/")


def _error(status: int, type_: str, message: str, **more: str) -> web.Response:
    response = web.json_response({"error": {"type": type_, "message": message, **more}}, status=status)
    if status == 500:
        response.headers["Stripe-Should-Retry"] = "false"  # the answer is saved
    return response


def _replay(answer: Answer) -> web.Response:
    headers = {"Idempotent-Replayed": "true"}
    if answer.status == 500:
        headers["Stripe-Should-Retry"] = "false"
    return web.Response(body=answer.body, status=answer.status, headers=headers, content_type="application/json")


def _middleware(layer: Callable[[web.Request, Handler], Awaitable[web.Response]]) -> Any:
    async def middleware(request: web.Request, handler: Handler) -> web.Response:
        return await layer(request, handler)

    return web.middleware(middleware)


async def refuse_web_pages(request: web.Request, handler: Handler) -> web.Response:
    """The first middleware: refuse requests of web pages, and of hosts with other names."""
    headers = request.headers
    reason = host_fault(headers.getall("Host", []))
    if not reason and is_from_elsewhere(headers.get("Host", ""), headers.get("Origin"), headers.get("Sec-Fetch-Site")):
        reason = "The payment provider of the laptop stack does not answer web pages."
    return _error(403, "invalid_request_error", reason) if reason else await handler(request)


def ask_for_the_key(key: str) -> Callable[[web.Request, Handler], Awaitable[web.Response]]:
    """Make what refuses every request without this key, those to ``/_config`` too; localstripe takes any."""

    async def layer(request: web.Request, handler: Handler) -> web.Response:
        kind, _, value = request.headers.get("Authorization", "").partition(" ")
        try:
            given = BasicAuth.decode(f"{kind} {value}").login if kind == "Basic" else value
        except ValueError:
            given = ""
        if hmac.compare_digest(given.encode(errors="surrogateescape"), key.encode()):
            return await handler(request)
        return _error(401, "invalid_request_error", "Invalid API Key provided.")

    return layer


def remember_over_restarts(app: web.Application, keys: IdempotencyKeys, file: Path) -> None:
    """Save the state at the end and load it at the start: Stripe forgets nothing.

    localstripe writes one file in /tmp on every change.
    """
    if file.exists():
        store, keys.answers = pickle.loads(file.read_bytes())  # noqa: S301 # our own
        for key, value in store.items():
            resources.store[key] = value
        file.unlink()

    async def write_down(_: web.Application) -> None:
        file.write_bytes(pickle.dumps((dict(resources.store), keys.answers)))

    app.on_cleanup.append(write_down)


def build_app(memory: Path, key: str) -> web.Application:
    """Patch localstripe and add the middlewares.

    ``memory`` is the file that keeps the state between runs, ``key`` the only API key.
    """
    localstripe_patches.apply()
    # Imported last, because it copies the list of endpoints.
    from localstripe.server import app, error_middleware  # type: ignore[import-not-found]

    faults, keys = Faults(), IdempotencyKeys()
    outside = (refuse_web_pages, refuse_live_keys, ask_for_the_key(key), faults.on_the_wire)
    app.middlewares[:0] = [_middleware(layer) for layer in outside]
    app.middlewares.extend([_middleware(keys.answer_once), _middleware(faults.in_the_endpoint), error_middleware])
    app.router.add_post("/_config/faults", faults.change)
    app.router.add_get("/_config/faults", faults.tell)
    app.router.add_delete("/_config/idempotency_keys", keys.forget)
    remember_over_restarts(app, keys, memory)
    return app


def main() -> None:
    """Serve until stopped. The arguments are the port, the state file, and addresses besides the loopback address."""
    installed = version("localstripe")
    if installed != CHECKED_VERSION:
        message = f"was checked with localstripe {CHECKED_VERSION}, not {installed}: read it again."
        sys.exit(f"{Path(__file__).name} {message}")
    app = build_app(Path(sys.argv[2]), os.environ["DARKROOM_STRIPE_KEY"])
    hosts = ["127.0.0.1", *sys.argv[3:]]
    web.run_app(app, host=hosts, port=int(sys.argv[1]), access_log=None, print=None, shutdown_timeout=1)


if __name__ == "__main__":
    main()
