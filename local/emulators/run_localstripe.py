"""Start localstripe with the features of Stripe that it lacks, and with faults on demand.

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
from localstripe import errors, resources  # type: ignore[import-not-found]

sys.path.append(str(Path(__file__).parents[2]))
from local.emulators.guard import host_fault, is_from_elsewhere

CHECKED_VERSION = "1.15.10"

Handler = Callable[[web.Request], Awaitable[web.Response]]


def keep_in_memory() -> None:
    """Write nothing to disk.

    localstripe writes its whole state into one file in /tmp on every change. Remove this when that file is a setting.
    """
    resources.Store.dump_to_disk = lambda _: None


def find_by_kind() -> None:
    """List the objects of one kind without looking at all others.

    localstripe scans all objects several times for every charge that it shows, so each order slows the next. Remove
    this when ``make chaos`` with 1000 orders is as fast without it.
    """
    kinds: dict[str, dict[str, Any]] = {}
    store = resources.Store

    def remember(self: Any, key: str, value: Any) -> None:
        kinds.setdefault(key.partition(":")[0], {})[key] = value
        dict.__setitem__(self, key, value)

    def forget(self: Any) -> None:
        kinds.clear()
        dict.clear(self)

    def list_all(cls: Any, /, url: str, limit: Any = None, starting_after: Any = None, **others: Any) -> Any:
        if others:
            raise errors.UserError(400, f"Unexpected {', '.join(others)}")
        found = resources.List(url, limit=limit, starting_after=starting_after)
        found._list = [item for key, item in kinds.get(cls.object, {}).items() if key in resources.store]  # noqa: SLF001
        return found

    store.__setitem__, store.clear = remember, forget
    resources.StripeObject._api_list_all = classmethod(list_all)  # noqa: SLF001 # there is no public hook


def call_card_errors_so() -> None:
    """Give a 402 the type ``card_error``. Remove this when localstripe has more types of errors."""
    original = errors.UserError.__init__

    def patched(error: Any, code: int, message: str | None = None, contents: dict[str, Any] | None = None) -> None:
        original(error, code, message, contents)
        if code == 402:
            error.body["error"]["type"] = "card_error"

    errors.UserError.__init__ = patched


def decline_when_charging() -> None:
    """Decline the charge of a card that localstripe only refuses to attach to a customer, as 4000000000000002.

    Remove this when a payment with ``pm_card_visa_chargeDeclined`` is declined without it.
    """
    method = resources.PaymentMethod
    charging_is_declined = method._charging_is_declined  # noqa: SLF001
    method._charging_is_declined = (  # noqa: SLF001
        lambda self: charging_is_declined(self) or method._attaching_is_declined(self)  # noqa: SLF001
    )


def say_what_is_missing() -> None:
    """Answer ``resource_missing`` and name the parameter, where localstripe says only "Not Found".

    The same for a payment method with an invalid id. Remove this when localstripe gives codes.
    """
    retrieve = resources.StripeObject._api_retrieve.__func__  # noqa: SLF001
    create = resources.PaymentIntent._api_create.__func__  # noqa: SLF001

    def missing(kind: str, name: str) -> errors.UserError:
        kind = "payment_method" if kind in ("card", "source") else kind
        words = "PaymentMethod" if kind == "payment_method" else kind
        param = "intent" if kind == "payment_intent" else kind
        return errors.UserError(404, f"No such {words}: '{name}'", {"code": "resource_missing", "param": param})

    def patched_retrieve(cls: Any, /, id: str) -> Any:  # noqa: A002 # its name in localstripe
        if f"{cls.object}:{id}" not in resources.store:
            raise missing(cls.object, id)
        return retrieve(cls, id)

    def patched_create(cls: Any, /, **data: Any) -> Any:
        payment_method = data.get("payment_method")
        if payment_method and not payment_method.startswith(("pm_", "src_", "card_")):
            raise missing("payment_method", payment_method)
        return create(cls, **data)

    resources.StripeObject._api_retrieve = classmethod(patched_retrieve)  # noqa: SLF001
    resources.PaymentIntent._api_create = classmethod(patched_create)  # noqa: SLF001


def take_allowed_payment_method_types() -> None:
    """Accept the new parameter and refuse the old one, as Stripe does since its version 2026-09-30 (Endive).

    https://docs.stripe.com/changelog/endive Remove this when localstripe knows ``allowed_payment_method_types``.
    """
    create = resources.PaymentIntent._api_create.__func__  # noqa: SLF001

    def patched(cls: Any, /, allowed_payment_method_types: Any = None, **data: Any) -> Any:
        del allowed_payment_method_types  # all its payment methods are cards
        if "payment_method_types" in data:
            message = "The payment_method_types parameter is no longer supported."
            raise errors.UserError(400, message, {"code": "payment_method_types_no_longer_supported"})
        return create(cls, **data)

    resources.PaymentIntent._api_create = classmethod(patched)  # noqa: SLF001


def accept_off_session() -> None:
    """Confirm payments off session: a bank that requires authentication declines them.

    Remove this when localstripe's confirm accepts ``off_session``.
    """
    path = "/v1/payment_intents/{id}/confirm"
    confirm = resources.PaymentIntent._api_confirm  # noqa: SLF001

    def patched(id: str, off_session: str = "false", **data: Any) -> Any:  # noqa: A002
        intent = confirm(id, **data)
        if off_session == "true" and intent.status == "requires_action":
            intent.next_action = intent.payment_method = None
            message = "Your card was declined. This transaction requires authentication."
            raise errors.UserError(402, message, {"code": "authentication_required"})
        return intent

    resources.extra_apis[:] = [
        (verb, url, patched if url == path else answer) for verb, url, answer in resources.extra_apis
    ]


def refund_once() -> None:
    """Refund what is left of a charge; refuse if nothing is left. Remove this when localstripe counts refunds."""
    create = resources.Refund._api_create.__func__  # noqa: SLF001

    def patched(cls: Any, /, **data: Any) -> Any:
        if intent := data.get("payment_intent"):
            charge = resources.PaymentIntent._api_retrieve(intent).latest_charge  # noqa: SLF001
        else:
            charge = resources.Charge._api_retrieve(str(data.get("charge")))  # noqa: SLF001
        if charge is None or charge.status != "succeeded":
            raise errors.UserError(400, "There is no successful charge to refund.")
        left = charge.amount - charge.amount_refunded
        if left <= 0:
            message = f"Charge {charge.id} has already been refunded."
            raise errors.UserError(400, message, {"code": "charge_already_refunded"})
        if int(data.get("amount", left)) > left:
            raise errors.UserError(400, f"Refund amount is greater than unrefunded amount ({left}).")
        return create(cls, **{"amount": left, **data})

    resources.Refund._api_create = classmethod(patched)  # noqa: SLF001


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
    keep_in_memory()
    find_by_kind()
    call_card_errors_so()
    decline_when_charging()
    say_what_is_missing()
    take_allowed_payment_method_types()
    accept_off_session()
    refund_once()
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
