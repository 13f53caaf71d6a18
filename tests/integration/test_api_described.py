"""The laptop stack's API answers what its description says, as the one on LocalStack does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from time import sleep
from typing import Any

import pytest
import schemathesis
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from requests import PreparedRequest
from requests.auth import AuthBase

from local.chaos.fault_injection import held_back_messages, kill_functions
from local.config import LocalConfig
from local.outcomes import count_messages
from local.stack import Stack
from tests.api_expectations import *  # noqa: F403 # the tests and their fixtures
from tests.api_expectations import OF_A_FUNCTION, READ, SUBMIT, Api, described, explore

_SECONDS_BETWEEN = 0.02  # the API takes 50 requests a second


class _Signed(AuthBase):
    def __init__(self, stack: Stack) -> None:
        keys = stack.credentials
        self._signer = SigV4Auth(
            Credentials(keys["aws_access_key_id"], keys["aws_secret_access_key"]), "execute-api", stack.region
        )

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        sleep(_SECONDS_BETWEEN)
        assert request.url
        request.url = request.url.replace("+", "%20")  # as SigV4 signs a space
        body: Any = request.body
        unsigned = AWSRequest(request.method, request.url, {}, body)
        self._signer.add_auth(unsigned)
        request.headers.update(dict(unsigned.headers.items()))
        return request


@pytest.fixture(scope="module")
def api(stack: Stack, config: LocalConfig) -> Iterator[Api]:
    """The API; what is submitted stays on its queue until it is thrown away, and nobody else puts anything there."""
    queues = {name: stack.outputs[f"{name}Url"] for name in (*READ.values(), *SUBMIT.values())}
    with ExitStack() as held:
        for name in SUBMIT.values():
            held.enter_context(held_back_messages(stack, stack.outputs[f"{name}Arn"]))
        if any(count_messages(stack, queues[name])[1] for name in SUBMIT.values()):
            for function in ("ProcessImageFunctionName", "ProcessOrderFunctionName"):
                kill_functions(config, stack.outputs[function])  # or what earlier tests sent ends in these
        yield Api(stack.outputs["ApiUrl"], stack.outputs["ApiKey"], stack.sqs, queues, auth=_Signed(stack))
        for url in queues.values():
            stack.sqs.purge_queue(QueueUrl=url)


OF_THE_FUNCTION = described(dict(OF_A_FUNCTION.values()))


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", OF_THE_FUNCTION)
def test_the_function_answers_nothing_that_is_not_described(
    api: Api, operation: str, mode: schemathesis.GenerationMode
) -> None:
    explore(api, OF_THE_FUNCTION[operation], mode)
