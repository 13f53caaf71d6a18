"""AWS faults on demand: calls that fail, break off or hang, and batches that SQS accepts in part.

``run_ministack.py`` installs it in the emulator's own environment. It stays: MiniStack does not inject faults.

    POST /_ministack/faults   {"seed": 7, "shares": {"s3": {"500 before": 0.01, "hangs after": 0.001}}}: from now on
                              these shares of the functions' calls fail so, of ``sqs`` also "refused entries";
                              answers how many did before, by service and kind

Only calls that a function makes under its role fail: their temporary credentials begin with ASIA, and the scope names
the service. Clients on this machine sign as the administrator; event source mappings make no calls.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-prefixes
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[dict[str, Any], Receive, Send], Coroutine[Any, Any, None]]

REFUSED_ENTRIES = "refused entries"
_PATH = "/_ministack/faults"
_CALL_OF_A_FUNCTION = re.compile(rb"AWS4-HMAC-SHA256 Credential=ASIA\w+/\d+/[\w-]+/(\w+)/aws4_request")
_is_of_a_function: ContextVar[bool] = ContextVar("is_of_a_function", default=False)


@dataclass(frozen=True)
class Error:
    """A service's error: an HTTP status and AWS's code."""

    status: int
    code: str


# The codes are those of each service's API reference, under "Errors" and "Common Errors".
_ERRORS = {
    "s3": {"500": Error(500, "InternalError"), "503": Error(503, "ServiceUnavailable"), "slow": Error(503, "SlowDown")},
    "dynamodb": {
        "500": Error(500, "InternalServerError"),
        "503": Error(503, "ServiceUnavailable"),
        "slow": Error(400, "ProvisionedThroughputExceededException"),
    },
    "sqs": {
        "500": Error(500, "InternalFailure"),
        "503": Error(503, "ServiceUnavailable"),
        "slow": Error(400, "RequestThrottled"),
    },
    "sns": {
        "500": Error(500, "InternalFailure"),
        "503": Error(503, "ServiceUnavailable"),
        "slow": Error(400, "ThrottlingException"),
    },
    "secretsmanager": {
        "500": Error(500, "InternalServiceError"),
        "503": Error(503, "ServiceUnavailable"),
        "slow": Error(400, "ThrottlingException"),
    },
}
# "before" and "after" the call takes effect. A call that answers "slow down" or "unavailable" has not started.
KINDS = ("500 before", "500 after", "503", "slow", "dropped before", "dropped after", "hangs before", "hangs after")


@dataclass
class Faults:
    """The shares of calls that fail, and the number that failed."""

    shares: dict[str, dict[str, float]] = field(default_factory=dict)
    luck: random.Random = field(default_factory=random.Random)
    counts: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def change(self, wanted: Mapping[str, Any]) -> dict[str, dict[str, int]]:
        """Set new shares; returns the counts of failures until now. Raises ValueError for an unknown fault."""
        for service, kinds in wanted["shares"].items():
            if service not in _ERRORS or not kinds.keys() <= {*KINDS, REFUSED_ENTRIES}:
                raise ValueError(f"There are no such faults: {service}: {', '.join(kinds)}.")
        told = {service: dict(kinds) for service, kinds in self.counts.items()}
        self.shares, self.luck = wanted["shares"], random.Random(wanted["seed"])  # noqa: S311 # guards no secret
        self.counts.clear()
        return told

    def next_of(self, service: str) -> str:
        """The fault of the next call, counted; empty for none."""
        kinds = [kind for kind in KINDS if kind in self.shares.get(service, {})]
        bounds = accumulate(self.shares[service][kind] for kind in kinds)
        drawn = self.luck.random() if kinds else 1.0
        chosen = next((kind for kind, bound in zip(kinds, bounds, strict=False) if drawn < bound), "")
        if chosen:
            self.counts[service][chosen] += 1
        return chosen

    def refuses_entry(self) -> bool:
        """Whether SQS refuses the next entry of a function's batch, counted."""
        refused = self.luck.random() < self.shares.get("sqs", {}).get(REFUSED_ENTRIES, 0)
        self.counts["sqs"][REFUSED_ENTRIES] += refused
        return refused


def install() -> None:
    """Install the faults before all of MiniStack, and inside SendMessageBatch."""
    from ministack import app

    faults = Faults()
    app.app = failing(app.app, faults)
    _refuse_part_of_batches(faults)


def failing(app: App, faults: Faults) -> App:
    """Put the faults before an ASGI application."""

    async def asgi(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
        elif (scope["method"], scope["path"]) == ("POST", _PATH):
            await answer(send, 200, json.dumps(faults.change(json.loads(await body_of(receive)))).encode(), {})
        elif service := _service_called_by_a_function(scope):
            _is_of_a_function.set(True)
            await _fail(faults.next_of(service), service, app, scope, receive, send)
        else:
            await app(scope, receive, send)

    return asgi


async def _fail(kind: str, service: str, app: App, scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if not kind:
        await app(scope, receive, send)
        return
    body = await body_of(receive)  # all of it, as a real service would
    how, _, when = kind.partition(" ")
    if when == "after":
        await app(scope, replaying(body, receive), _nowhere)
    match how:
        case "dropped":
            await _drop(send)
        case "hangs":  # until the client gives up
            while (await receive())["type"] != "http.disconnect":
                pass
        case _:
            error = _ERRORS[service][how]
            await answer(send, error.status, *_error_body(service, error))


def _service_called_by_a_function(scope: dict[str, Any]) -> str:
    authorization = dict(scope["headers"]).get(b"authorization", b"")
    call = _CALL_OF_A_FUNCTION.match(authorization)
    return call[1].decode() if call else ""


def _error_body(service: str, error: Error) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of an error, in the service's protocol."""
    message = "An injected fault."
    if service == "s3":
        text = f"<Error><Code>{error.code}</Code><Message>{message}</Message><RequestId>chaos</RequestId></Error>"
        return text.encode(), {"content-type": "application/xml"}
    if service == "sns":
        kind = "Receiver" if error.status >= 500 else "Sender"
        text = f"<Type>{kind}</Type><Code>{error.code}</Code><Message>{message}</Message>"
        text = f"<ErrorResponse><Error>{text}</Error><RequestId>chaos</RequestId></ErrorResponse>"
        return text.encode(), {"content-type": "text/xml"}
    text = json.dumps({"__type": error.code, "message": message})
    return text.encode(), {"content-type": "application/x-amz-json-1.0", "x-amzn-errortype": error.code}


async def answer(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """Send a whole answer."""
    lines = [(name.encode(), value.encode()) for name, value in headers.items()]
    lines.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


async def _drop(send: Any) -> None:
    """Close the connection without an answer, through Hypercorn: ASGI has no way to do so."""
    from hypercorn.protocol.events import StreamClosed

    stream = send.__self__
    await stream.send(StreamClosed(stream_id=stream.stream_id))


async def body_of(receive: Receive) -> bytes:
    """Read a request's whole body."""
    body = bytearray()  # bytes would be copied whole for each of its thousand parts
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return bytes(body)


def replaying(body: bytes, receive: Receive) -> Receive:
    """Return the request's body again, then whatever follows."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> dict[str, Any]:
        return waiting.pop() if waiting else await receive()

    return again


async def _nowhere(_: dict[str, Any]) -> None:
    """Lose an answer."""


def _refuse_part_of_batches(faults: Faults) -> None:
    """Make SQS refuse a share of the entries of a function's SendMessageBatch, inside a 200, as a busy SQS does."""
    from ministack.services import sqs

    send = sqs._HANDLERS["SendMessageBatch"]  # noqa: SLF001 # there is no public hook

    def send_some(data: dict[str, Any], queue_url: str) -> dict[str, Any]:
        entries = data.get("Entries", [])
        refused = [entry for entry in entries if _is_of_a_function.get() and faults.refuses_entry()]
        taken = [entry for entry in entries if entry not in refused]
        result = send({**data, "Entries": taken}, queue_url) if taken else {"Successful": [], "Failed": []}
        errors = [
            {"Id": entry["Id"], "Code": "InternalError", "Message": "Try again.", "SenderFault": False}
            for entry in refused
        ]
        return {**result, "Failed": result["Failed"] + errors}

    sqs._HANDLERS["SendMessageBatch"] = send_some  # noqa: SLF001
