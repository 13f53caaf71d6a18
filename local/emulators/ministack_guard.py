"""The guard before all of MiniStack: it refuses web pages, and requests not signed with a key of this stack.

``run_ministack.py`` installs it in the emulator's own environment. It stays: MiniStack treats any caller whose key is
"test" or twelve digits as its administrator, accepts every Origin and Host, and has paths that need no key.

These requests need no signature in a header: the health check, presigned URLs and forms of S3, and the HTTP API, which
refuses unsigned requests itself. Nor do files that a distribution of CloudFront serves: such a request reaches nothing
else of MiniStack. They must not name a key either: MiniStack believes a key in the query without a
signature.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

from local.emulators import ministack_cloudfront
from local.emulators.guard import NAMES, host_fault, is_from_elsewhere
from local.emulators.ministack_faults import App, Receive, Send, answer, body_of, replaying

_HEALTH = "/_ministack/health"
_INTERNAL = re.compile(r"/(_ministack|_localstack|health)\b")
_HTTP_API = re.compile(r"/_aws/execute-api/[A-Za-z0-9]+/[A-Za-z0-9$_-]+(/.*)?")
_OTHER_KEYS = ("awsaccesskeyid", "x-amz-credential")  # in the query; MiniStack also reads these
_READS = ("GET", "HEAD")
_SIGNED = "AWS4-HMAC-SHA256"
_SHA256 = re.compile("[0-9a-f]{64}")


def install() -> None:
    """Install the guard before all of MiniStack."""
    from ministack import app
    from ministack.core import lambda_runtime

    # MiniStack derives a function's keys from its name, so anybody can guess them.
    secret = os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    lambda_runtime.hashlib = SimpleNamespace(sha256=lambda data: hmac.new(secret, data, "sha256"))
    app.app = guarded(app.app, os.environ.get("DARKROOM_DOCKER_NETWORK", ""), ministack_cloudfront.app_of)


def guarded(app: App, docker_network: str = "", public: Callable[[str], App | None] = lambda _: None) -> App:
    """Put the guard before an ASGI application.

    Parameters
    ----------
    docker_network:
        A network with access, such as 172.17.0.0/16.
    public:
        By host: an application of its own that anybody may read, any web page too; for others None.
    """
    networks = [ip_network(text) for text in ("127.0.0.0/8", docker_network) if text]

    async def asgi(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        if scope["type"] != "http":  # the stack has no WebSockets
            await send({"type": "websocket.close", "code": 1008})
            return
        request = _Request(scope)
        if not any(ip_address(scope["client"][0]) in network for network in networks):
            await _refuse(send, request, "AccessDenied", "The laptop stack answers only this machine.")
            return
        if reason := host_fault(request.hosts):
            await _refuse(send, request, "AccessDenied", reason)
            return
        if (files := public(request.hosts[0])) is not None:
            if request.method not in (*_READS, "OPTIONS"):
                await _refuse(send, request, "AccessDenied", "These files can only be read.")
                return
            await files(scope, receive, send)
            return
        if _is_of_a_foreign_page(request):
            message = "The laptop stack answers only web pages of origins in a bucket's CORS rules."
            await _refuse(send, request, "AccessDenied", message)
            return
        if "origin" in request.headers:  # browsers do not trust the emulator's certificate, and the bucket wants TLS
            scope = {**scope, "scheme": "https"}
        if request.is_preflight and (target := _bucket_and_key(request)):
            # A browser that is about to upload to a presigned URL asks without a signature: MiniStack does not get it.
            await answer(send, *_preflight_answer(target, request))
            return
        if _needs_no_header(request):
            await app(scope, receive, send)
            return
        body = await body_of(receive)
        if fault := _signature_fault(request, body):
            await _refuse(send, request, *fault)
            return
        await app(scope, replaying(body, receive), send)

    return asgi


class _Request:
    """The parts of a request to check. ``headers`` have lower-case names; repeated ones are joined as signed."""

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.raw_path: str = (scope.get("raw_path") or self.path.encode()).decode("latin-1")
        self.query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        self.hosts: list[str] = []
        self.headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1").lower(), value.decode("utf-8", "replace")
            self.headers[key] = f"{self.headers[key]},{text}" if key in self.headers else text
            if key == "host":
                self.hosts.append(text)

    @property
    def is_presigned(self) -> bool:
        return "authorization" not in self.headers and any(name.lower() == "x-amz-signature" for name in self.query)

    @property
    def is_preflight(self) -> bool:
        return self.method == "OPTIONS" and "origin" in self.headers and "authorization" not in self.headers

    @property
    def has_plain_host(self) -> bool:
        """Whether the path alone says where the request leads: MiniStack has names for buckets, functions and APIs."""
        return self.hosts[0].partition(":")[0].lower() in NAMES

    @property
    def is_of_http_api(self) -> bool:
        """Whether MiniStack takes the request for one of the HTTP API."""
        return self.has_plain_host and "x-amz-target" not in self.headers and bool(_HTTP_API.fullmatch(self.path))

    @property
    def names_a_key(self) -> bool:
        return any(name.lower() in _OTHER_KEYS for name in self.query)

    @property
    def service(self) -> str:
        """The service whose error format a refusal has."""
        scope = self.headers.get("authorization", "").partition("Credential=")[2].split("/")
        return scope[3] if len(scope) > 3 else "s3" if self.is_presigned else ""


def _is_of_a_foreign_page(request: _Request) -> bool:
    """Whether the request comes from a page of an origin that the stack does not allow."""
    if not is_from_elsewhere(request.hosts[0], request.headers.get("origin"), request.headers.get("sec-fetch-site")):
        return False
    if "origin" not in request.headers:  # an image of the page: its URL needs a signature
        return not (request.method in _READS and request.is_presigned)
    return not _allowed_by_a_bucket(request)


def _bucket_and_key(request: _Request) -> tuple[str, str] | None:
    """The bucket that the request names, if it exists, and the key, which may be empty."""
    from ministack import app

    found: tuple[str, str] | None = app._s3_cors_target(request.hosts[0], request.path)  # noqa: SLF001 # no public hook
    return found


def _preflight_answer(target: tuple[str, str], request: _Request) -> tuple[int, bytes, dict[str, str]]:
    """What the bucket's CORS rules say to a browser's question: status, body, headers."""
    from ministack.services import s3

    status, headers, body = s3.cors_preflight(*target, request.headers)
    return status, body, {name: value for name, value in headers.items() if name != "Content-Length"}


def _allowed_by_a_bucket(request: _Request) -> bool:
    from ministack.services import s3

    target = _bucket_and_key(request)
    if target is None:
        return False
    method = request.headers.get("access-control-request-method", "") if request.method == "OPTIONS" else request.method
    return bool(s3.cors_response_headers(target[0], method, request.headers))


def _needs_no_header(request: _Request) -> bool:
    if "authorization" in request.headers or request.is_presigned or request.names_a_key:
        return False
    is_form = request.headers.get("content-type", "").startswith("multipart/form-data")
    return (
        (request.method, request.path) == ("GET", _HEALTH)
        or request.is_of_http_api
        or (request.method == "POST" and is_form and _is_of_a_bucket(request))
    )


def _is_of_a_bucket(request: _Request) -> bool:
    """Whether the request is a form for a bucket; S3 checks its signature."""
    target = _bucket_and_key(request)
    is_bucket = target is not None and not target[1] and not request.query
    return is_bucket and request.has_plain_host and _reaches_s3(request, b"")


def _reaches_s3(request: _Request, body: bytes) -> bool:
    """Whether MiniStack takes the request for one of S3: headers, or a form in the body, may name another service."""
    from ministack import app
    from ministack.core import router

    call = (request.method, request.path, request.headers)
    parameters = app._routing_params(*call, body, request.query)  # noqa: SLF001 # there is no public hook
    return bool(router.detect_service(*call, parameters) == "s3")


def _signature_fault(request: _Request, body: bytes) -> tuple[str, str] | None:
    """Code and message of a signature error, or None if a key of this stack made the signature."""
    from ministack.core import iam_evaluator, responses, router, sigv4

    if request.is_presigned:
        if request.query.get("X-Amz-Algorithm") != [_SIGNED]:
            return "AccessDenied", f"Presign with {_SIGNED}."
        signature = sigv4.parse_query_signature(request.query)
        token = request.query.get("X-Amz-Security-Token", [""])[0]
    elif request.headers.get("authorization", "").startswith(_SIGNED + " "):
        signature = sigv4.parse_header_signature(request.headers)
        token = request.headers.get("x-amz-security-token", "")
    else:
        return (
            "MissingAuthenticationToken",
            "Sign the request with the keys that make env prints.",
        )
    if isinstance(signature, tuple):
        code, message = signature
        return code, message
    # S3 checks the expiry of its presigned URLs
    is_of_s3 = signature.service == "s3" and request.is_presigned
    if not is_of_s3 and (skewed := sigv4.request_time_failure(signature)):
        return skewed[0], skewed[1]
    key = signature.access_key_id
    if key != router.extract_access_key_id(request.headers, request.query):
        return "IncompleteSignature", "The request names more than one key."
    signed_hash = request.headers.get("x-amz-content-sha256", "")
    if not request.is_presigned and _SHA256.fullmatch(signed_hash) and signed_hash != hashlib.sha256(body).hexdigest():
        return "XAmzContentSHA256Mismatch", "The body is not the one that is signed."  # MiniStack does not compare
    if is_of_s3 and not _reaches_s3(request, body):
        return "SignatureDoesNotMatch", "A URL that is signed for S3 opens no other service."
    if request.is_of_http_api and not iam_evaluator.is_root_access_key(key):
        return None  # MiniStack checks it and refuses it in the API's format; it does not check its administrator
    if _INTERNAL.match(request.path) and key != os.environ["AWS_ACCESS_KEY_ID"]:
        return "AccessDenied", "Only the administrator may use this path."
    account = responses._account_from_sts_session(key) or iam_evaluator.find_iam_access_key_account(key)  # noqa: SLF001
    credential = iam_evaluator.resolve_credential(key, account or responses.get_account_id(), token)
    if isinstance(credential, iam_evaluator.CredentialResolutionError):
        return credential.code, credential.message
    failure: tuple[str, str] | None = sigv4.header_signature_failure(
        signature,
        credential.secret_access_key,
        request.method,
        request.raw_path,
        request.query,
        request.headers,
        body,
        presigned=request.is_presigned,
    )
    return failure


async def _refuse(send: Send, request: _Request, code: str, message: str) -> None:
    """Answer 403 in the error format of the requested service."""
    if request.service == "s3":
        text = f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>guard</RequestId></Error>"
        await answer(send, 403, text.encode(), {"content-type": "application/xml"})
    elif request.service in ("cloudformation", "iam", "monitoring", "sns", "sts"):
        text = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        text = f"<ErrorResponse>{text}<RequestId>guard</RequestId></ErrorResponse>"
        await answer(send, 403, text.encode(), {"content-type": "text/xml"})
    else:
        body = json.dumps({"__type": code, "message": message}).encode()
        await answer(send, 403, body, {"content-type": "application/json", "x-amzn-errortype": code})
