"""`make preflight` and `make smoke` against the deployed stack."""

from __future__ import annotations

import io

from rich.console import Console

from local.config import LocalConfig, template_parameters
from local.outcomes import take_results
from local.stack import Stack
from operations import preflight, smoke
from tests.integration.cloudwatch import CloudWatch


def test_preflight_finds_the_laptop_stack_ready(stack: Stack, config: LocalConfig) -> None:
    console = Console(file=io.StringIO(), width=120)
    plan = preflight.plan_of("local", template_parameters(config))
    assert preflight.run(stack, plan, console) == 0, console.file.getvalue()  # type: ignore[attr-defined]


def test_a_stack_that_works_is_proven_and_left_as_it_was(stack: Stack) -> None:
    # given no alarm is on
    CloudWatch(stack).calm()
    # then
    console = Console(file=io.StringIO(), width=120)
    assert smoke.run(stack, console) == 0, console.file.getvalue()  # type: ignore[attr-defined]
    left = stack.s3.list_object_versions(Bucket=stack.outputs["UploadsBucketName"], Prefix=smoke.PREFIX)
    assert not left.get("Versions")
    assert not left.get("DeleteMarkers")
    assert [result for result in take_results(stack) if smoke.PREFIX in str(result)] == []
