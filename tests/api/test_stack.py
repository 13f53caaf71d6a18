"""The template on a second CloudFormation: created, updated, with every combination of flows, and deleted."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest

from operations import preflight
from operations.preflight import Verdict
from tests.api.conftest import BROKER, BUCKET, LocalStack
from tests.template.template import ROOT, as_written

TEMPLATE = as_written((ROOT / "template.yaml").read_text())
# The resources whose logical ids SAM leaves as they are.
NAMES = TEMPLATE["Resources"].keys() - TEMPLATE.layers.keys()
FLOWS = (
    {"Orders": "false"},
    {"HttpApi": "false"},
    {"Delivery": "true"},
    {"RabbitMqIntake": "true", "CreateRabbitMqBroker": "true", "RabbitMqPubliclyAccessible": "true"},
)
COMBINATIONS = [
    {name: value for flow, chosen in zip(FLOWS, choice, strict=True) if chosen for name, value in flow.items()}
    for choice in product((False, True), repeat=len(FLOWS))
]


def test_the_template_before_is_updated_to_this_one(stack: LocalStack) -> None:
    (description,) = stack.cloudformation.describe_stacks(StackName=stack.stack_name)["Stacks"]
    assert description["StackStatus"] == "UPDATE_COMPLETE"
    assert stack.resources().keys() & NAMES == {name for name in NAMES if TEMPLATE.exists(name, stack.parameters())}


def test_a_deployment_that_names_no_parameter_keeps_every_value(stack: LocalStack) -> None:
    """Neither an incident's override nor a broker falls out of the stack because nobody named it."""
    kept, made = stack.parameters(), stack.resources()
    assert (kept["ProcessImageMemory"], kept["RabbitMqBrokerArn"]) == ("2048", BROKER)
    function = stack.lambda_.get_function_configuration(FunctionName=made["ProcessImageFunction"])
    assert function["MemorySize"] == 2048
    assert "RelayRabbitMqBrokerPolicy" in made


@pytest.fixture(scope="module")
def template_url(stack: LocalStack) -> str:
    """The template as SAM deployed it, transformed: once is enough."""
    processed: Any = stack.cloudformation.get_template(StackName=stack.stack_name, TemplateStage="Processed")
    text = processed["TemplateBody"]
    stack.s3.put_object(
        Bucket=BUCKET, Key="combinations.json", Body=text if isinstance(text, str) else json.dumps(text)
    )
    return f"{stack.endpoint_url}/{BUCKET}/combinations.json"


@pytest.mark.parametrize("chosen", COMBINATIONS, ids=lambda chosen: ",".join(chosen) or "defaults")
def test_each_combination_of_flows_makes_its_resources(
    stack: LocalStack, template_url: str, chosen: dict[str, str]
) -> None:
    """LocalStack refuses a `GetAtt` and a `Sub` of what a combination leaves out, cfn-lint a `Ref`, too."""
    # when
    which: Any = {"StackName": f"combination-{COMBINATIONS.index(chosen)}", "ChangeSetName": "create"}
    stack.cloudformation.create_change_set(
        **which,
        ChangeSetType="CREATE",
        TemplateURL=template_url,
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in chosen.items()],
    )
    # then
    pages = stack.cloudformation.get_paginator("describe_change_set").paginate(**which)
    changes = [(page["Status"], change["ResourceChange"]) for page in pages for change in page["Changes"]]
    assert {status for status, _ in changes} == {"CREATE_COMPLETE"}
    added = {change["LogicalResourceId"] for _, change in changes if change["Action"] == "Add"}
    assert added & NAMES == {name for name in NAMES if TEMPLATE.exists(name, chosen)}


def test_preflight_sees_that_a_new_account_has_ten_functions_at_once(stack: LocalStack) -> None:
    plan = preflight.plan_of("prod", {"ProcessImageConcurrency": "10"})
    failed = {finding.check for finding in preflight.look(stack, plan) if finding.verdict is Verdict.FAILURE}
    assert failed == {"Lambda concurrency"}


def test_the_stack_is_deleted(stack: LocalStack) -> None:
    """The last test here: it takes the stack away."""
    stack.sam("delete", "--no-prompts", "--s3-bucket", BUCKET)
    stacks = stack.cloudformation.list_stacks(StackStatusFilter=["DELETE_COMPLETE"])["StackSummaries"]
    assert stack.stack_name in {one["StackName"] for one in stacks}
    assert stack.lambda_.list_functions()["Functions"] == []
