"""Lambda's way in: a request of the HTTP API, which API Gateway has authorised and routed."""

from __future__ import annotations

import os
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from darkroom.errors import ServiceUnavailable
from darkroom.logs import logger
from darkroom.reporting import metrics, report_fault

from functions.answer_requests.requests import RequestRefused, answered, refused
from functions.answer_requests.routes import answer
from functions.answer_requests.settings import Settings
from functions.answer_requests.wiring import build_dependencies

dependencies = build_dependencies(Settings.from_environment(os.environ))


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics(capture_cold_start_metric=True)
def lambda_handler(event: Any, context: LambdaContext) -> dict[str, Any]:
    """Answer one request; returns status, headers and body as API Gateway takes them.

    A defect is not caught: it counts as a Lambda error, and API Gateway answers 502 in the API's own shape.
    """
    del context
    try:
        return answered(200, answer(event, dependencies))
    except RequestRefused as refusal:
        return refused(refusal)
    except ServiceUnavailable as fault:
        report_fault(fault, {}, is_last=False)
        return refused(RequestRefused(502, "SERVICE_UNAVAILABLE", "AWS is unavailable. Try again."))
