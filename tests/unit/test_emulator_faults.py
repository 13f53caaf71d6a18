"""`local/emulators/ministack_faults.py`: which calls of the functions fail, and how an AWS client sees it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import botocore.session
import pytest
from botocore.compat import HTTPHeaders
from botocore.parsers import create_parser
from botocore.retries.standard import ThrottledRetryableChecker, TransientRetryableChecker

from local.emulators.ministack_faults import Faults, failing

SERVICES = ("s3", "dynamodb", "sqs", "sns", "secretsmanager")
# What the "standard" mode of the functions' clients tries again.
TRANSIENT_STATUSES: Any = vars(TransientRetryableChecker)["_TRANSIENT_STATUS_CODES"]
THROTTLING_CODES: Any = vars(ThrottledRetryableChecker)["_THROTTLED_ERROR_CODES"]
CODES = {
    "500 before": {"InternalError", "InternalServerError", "InternalFailure", "InternalServiceError"},
    "503": {"ServiceUnavailable"},
    "slow": {"SlowDown", "ProvisionedThroughputExceededException", "RequestThrottled", "ThrottlingException"},
}
BODY = b'{"TableName": "tasks"}'


def signed(access_key: str, service: str) -> bytes:
    scope = f"Credential={access_key}/20261122/eu-central-1/{service}/aws4_request"
    return f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0".encode()


@dataclass
class Emulator:
    """An application behind the faults: what it took, and what its clients get."""

    shares: dict[str, dict[str, float]]
    took: list[bytes] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        self.faults.change({"shares": self.shares, "seed": 7})

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.took.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    def call(self, service: str, access_key: str = "ASIA0123456789ABCDEF") -> tuple[int, dict[str, str], bytes]:
        """Make a call and hang up in the end; returns status, headers and body of the answer, status 0 for none."""
        coming: list[dict[str, Any]] = [
            {"type": "http.request", "body": BODY, "more_body": False},
            {"type": "http.disconnect"},
        ]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return coming.pop(0)

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        headers = [(b"authorization", signed(access_key, service))]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
        asyncio.run(failing(self.app, self.faults)(scope, receive, send))
        if not sent:
            return 0, {}, b""
        return sent[0]["status"], {n.decode(): v.decode() for n, v in sent[0]["headers"]}, sent[1]["body"]


def always(service: str, kind: str) -> Emulator:
    return Emulator({service: {kind: 1.0}})


@pytest.mark.parametrize("service", SERVICES)
class TestACallOfAFunction:
    @pytest.mark.parametrize("kind", ["500 before", "503", "slow", "hangs before"])
    def test_that_fails_before_takes_no_effect(self, service: str, kind: str) -> None:
        emulator = always(service, kind)
        assert emulator.call(service)[0] != 200
        assert emulator.took == []

    @pytest.mark.parametrize("kind", ["500 after", "hangs after"])
    def test_that_fails_after_takes_effect_without_an_answer(self, service: str, kind: str) -> None:
        emulator = always(service, kind)
        status, _, body = emulator.call(service)
        assert emulator.took == [BODY]
        assert (status != 200, b"done" in body) == (True, False)

    @pytest.mark.parametrize("kind", ["500 before", "503", "slow"])
    def test_gets_an_error_that_aws_clients_retry(self, service: str, kind: str) -> None:
        status, headers, body = always(service, kind).call(service)
        code = error_code(service, status, headers, body)
        assert status in TRANSIENT_STATUSES or code in THROTTLING_CODES
        assert code in CODES[kind]

    def test_fails_at_the_configured_rate_and_is_counted(self, service: str) -> None:
        emulator = Emulator({service: {"503": 0.1, "slow": 0.2}})
        statuses = [emulator.call(service)[0] for _ in range(400)]
        counts = emulator.faults.change({"shares": {}, "seed": 1})[service]
        assert sum(status != 200 for status in statuses) == counts["503"] + counts["slow"]
        assert 20 < counts["503"] < 60
        assert 50 < counts["slow"] < 110

    def test_fails_alike_with_the_same_seed(self, service: str) -> None:
        runs = [
            [emulator.call(service)[0] for _ in range(50)]
            for emulator in (half_failing(service), half_failing(service))
        ]
        assert runs[0] == runs[1]
        assert len(set(runs[0])) == 2

    def test_of_another_service_succeeds(self, service: str) -> None:
        emulator = always(next(other for other in SERVICES if other != service), "503")
        assert emulator.call(service)[0] == 200

    def test_of_a_client_on_this_machine_succeeds(self, service: str) -> None:
        emulator = always(service, "503")
        assert emulator.call(service, access_key="test")[0] == 200


@pytest.mark.parametrize("shares", [{"s3": {"400": 0.1}}, {"lambda": {"503": 0.1}}], ids=["kind", "service"])
def test_an_unknown_fault_is_refused(shares: dict[str, dict[str, float]]) -> None:
    with pytest.raises(ValueError, match="There are no such faults"):
        Faults().change({"shares": shares, "seed": 1})


def half_failing(service: str) -> Emulator:
    return Emulator({service: {"503": 0.5}})


def error_code(service: str, status: int, headers: dict[str, str], body: bytes) -> str:
    model = botocore.session.get_session().get_service_model(service)
    shape = model.operation_model(model.operation_names[0]).output_shape
    response = {"status_code": status, "headers": HTTPHeaders.from_dict(headers), "body": body}
    parsed = create_parser(model.protocol).parse(response, cast(Any, shape))
    return str(parsed["Error"]["Code"])
