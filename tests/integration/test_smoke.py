"""`make preflight` and `make smoke` against the deployed stack."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest
from rich.console import Console

from local.config import PROJECT, LocalConfig, template_parameters
from local.inventory import read_stock
from local.outcomes import take_results
from local.stack import Stack
from operations import preflight, smoke
from tests.console import said
from tests.integration.cloudwatch import CloudWatch
from tests.integration.test_orders import new_product


def test_preflight_finds_the_laptop_stack_ready(stack: Stack, config: LocalConfig) -> None:
    console = Console(file=io.StringIO(), width=120)
    plan = preflight.plan_of("local", template_parameters(config))
    assert preflight.run(stack, plan, console) == 0, said(console)


def test_a_stack_that_works_is_proven_and_left_as_it_was(stack: Stack) -> None:
    # given no alarm is on, no result waits, and there is a product
    stack.sqs.purge_queue(QueueUrl=stack.outputs["ResultsQueueUrl"])
    product = new_product(stack, available=5)
    CloudWatch(stack).calm()
    # then
    console = Console(file=io.StringIO(), width=120)
    assert smoke.run(stack, console, product) == 0, said(console)
    assert "rejected, OutOfStock" in said(console)
    orders = stack.dynamodb.scan(TableName=stack.outputs["OrdersTableName"])["Items"]
    assert [one for one in orders if one["order_id"]["S"].startswith("darkroom-smoke-")] == []
    assert read_stock(stack, [product])[product]["available"] == 5
    left = stack.s3.list_object_versions(Bucket=stack.outputs["UploadsBucketName"], Prefix=smoke.PREFIX)
    assert not left.get("Versions")
    assert not left.get("DeleteMarkers")
    assert [result for result in take_results(stack) if smoke.PREFIX in str(result)] == []


class AsInAws(Stack):
    """A stack whose alarms are all fed: nobody has to ask which are."""

    @property
    def feeds_all_metrics(self) -> bool:
        return True


@pytest.fixture
def as_deployer(stack: Stack, config: LocalConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """The stack in the eyes of a workflow's job: with what its role of deployment/deploy-role.yaml may do."""
    cloudformation, iam, name = stack.cloudformation, stack.client("iam"), f"deployer-{uuid4().hex}"
    provider = f"arn:aws:iam::{stack.account}:oidc-provider/token.actions.githubusercontent.com"
    chosen = {"Repository": "a/b", "DarkroomStack": stack.stack_name, "GitHubProviderArn": provider}
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=(PROJECT / "deployment" / "deploy-role.yaml").read_text(),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in chosen.items()],
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1})
    (role,) = cloudformation.describe_stack_resources(StackName=name, LogicalResourceId="DeployRole")["StackResources"]
    iam.create_user(UserName=name)
    policies = iam.list_role_policies(RoleName=role["PhysicalResourceId"])["PolicyNames"]
    for policy in policies:
        document = iam.get_role_policy(RoleName=role["PhysicalResourceId"], PolicyName=policy)["PolicyDocument"]
        # MiniStack names log groups in a form of its own.
        ours, its = f":log-group:{stack.stack_name}-", f":log-group:/aws/cloudformation/{stack.stack_name}/"
        text = json.dumps(document).replace(ours, its)
        iam.put_user_policy(UserName=name, PolicyName=policy, PolicyDocument=text)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    monkeypatch.setenv("AWS_CA_BUNDLE", str(config.certificate))
    keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    yield AsInAws(**vars(replace(stack, endpoint_url=f"https://127.0.0.1:{config.tls_port}", credentials=keys)))
    iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    for policy in policies:
        iam.delete_user_policy(UserName=name, PolicyName=policy)
    iam.delete_user(UserName=name)
    cloudformation.delete_stack(StackName=name)


def test_a_job_that_deploys_may_look_at_the_account_and_prove_the_stack(
    stack: Stack, config: LocalConfig, as_deployer: Stack
) -> None:
    console = Console(file=io.StringIO(), width=120)
    assert preflight.run(as_deployer, preflight.plan_of("local", template_parameters(config)), console) == 0
    CloudWatch(stack).calm()
    assert smoke.run(as_deployer, console) == 0, said(console)
    assert "not checked" not in said(console)
