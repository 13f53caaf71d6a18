"""The Lambda handler, which a schedule calls once a day; the event does not matter."""

from __future__ import annotations

import os
from time import time
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from darkroom.errors import ServiceUnavailable
from darkroom.logs import logger
from darkroom.reporting import metrics, report_fault

from functions.sweep_orders.reporting import report_sent_again, report_unknown_payments
from functions.sweep_orders.settings import Settings
from functions.sweep_orders.sweep import send_again_what_stands_still, unknown_payments
from functions.sweep_orders.wiring import build_dependencies

dependencies = build_dependencies(Settings.from_environment(os.environ))


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics(capture_cold_start_metric=True)
def lambda_handler(event: Any, context: LambdaContext) -> dict[str, int]:
    """Sweep, or fail; then Lambda calls again. Returns how many orders and how many payments it found."""
    del event, context
    now = time()
    try:
        stood_still = report_sent_again(send_again_what_stands_still(dependencies, now))
        return {
            "stood_still": stood_still,
            "unknown_payments": report_unknown_payments(unknown_payments(dependencies, now)),
        }
    except ServiceUnavailable as fault:
        report_fault(fault, {}, is_last=False)
        raise
