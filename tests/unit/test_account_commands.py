"""`make preflight` and `make set`, against answers of AWS."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import ClientError
from rich.console import Console

from operations import parameters, preflight
from operations.errors import OperationsError
from operations.preflight import Plan, Verdict
from tests.console import said
from tests.unit.test_operations import FakeStack

PARAMETERS = {
    "PythonRuntime": "python3.13",
    "Architecture": "arm64",
    "ProcessImageConcurrency": "5",
    "ProcessOrderConcurrency": "2",
    "Orders": "true",
    "HttpApi": "true",
    "CreateRabbitMqBroker": "false",
    "RabbitMqInstanceType": "mq.m7g.medium",
    "RabbitMqDeploymentMode": "SINGLE_INSTANCE",
    "RabbitMqEngineVersion": "4.2",
}


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "Call")


@dataclass
class FakeAccount:
    """The answers of an account; each attribute is read by one check."""

    concurrency: int = 1000
    role: str = "arn:aws:iam::123456789012:role/api-gateway-logs"
    stack: str = ""
    denied: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    broker_versions: tuple[str, ...] = ("3.13", "4.2")
    parameters: dict[str, str] = field(default_factory=dict)
    updates: list[dict[str, Any]] = field(default_factory=list)
    arn: str = "arn:aws:sts::123456789012:assumed-role/deployer/me"

    def get_caller_identity(self) -> Any:
        if not self.arn:
            raise refusal("ExpiredToken")
        return {"Arn": self.arn}

    def get_role(self, *, RoleName: str) -> Any:  # noqa: N803
        return {"Role": {"Arn": f"arn:aws:iam::123456789012:role/{RoleName}"}}

    def simulate_principal_policy(self, *, PolicySourceArn: str, ActionNames: list[str]) -> Any:  # noqa: N803
        assert ":role/" in PolicySourceArn
        decisions = {action: "implicitDeny" if action in self.denied else "allowed" for action in ActionNames}
        return {"EvaluationResults": [{"EvalActionName": a, "EvalDecision": d} for a, d in decisions.items()]}

    def describe_stacks(self, *, StackName: str) -> Any:  # noqa: N803
        if not self.stack:
            raise refusal("ValidationError")
        given = [{"ParameterKey": name, "ParameterValue": value} for name, value in self.parameters.items()]
        return {"Stacks": [{"StackName": StackName, "StackStatus": self.stack, "Parameters": given}]}

    def get_account_settings(self) -> Any:
        return {
            "AccountLimit": {
                "ConcurrentExecutions": self.concurrency,
                "UnreservedConcurrentExecutions": self.concurrency,
            }
        }

    def get_account(self) -> Any:
        return {"cloudwatchRoleArn": self.role} if self.role else {}

    def describe_broker_instance_options(self, **_: Any) -> Any:
        option = {"SupportedDeploymentModes": ["SINGLE_INSTANCE"], "SupportedEngineVersions": self.broker_versions}
        return {"BrokerInstanceOptions": [option]}

    def get_paginator(self, _: str) -> FakeAccount:
        return self

    def paginate(self, **_: Any) -> Iterator[Any]:
        yield {"ResourceTagMappingList": [{"ResourceARN": arn} for arn in self.leftovers]}

    def update_stack(self, **call: Any) -> None:
        self.updates.append(call)

    def get_waiter(self, _: str) -> FakeAccount:
        return self

    def wait(self, **_: Any) -> None:
        pass


def stack_in(account: FakeAccount) -> FakeStack:
    services = ("sts", "iam", "cloudformation", "lambda", "apigateway", "mq", "resourcegroupstaggingapi")
    return FakeStack("darkroom", "eu-central-1", {}, dict.fromkeys(services, account))


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=100, highlight=False)


class TestPreflight:
    @pytest.fixture(autouse=True)
    def tools(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("operations.preflight.shutil.which", lambda name: f"/usr/bin/{name}")
        monkeypatch.setattr(
            "operations.preflight.subprocess.run",
            lambda *_, **__: type("Answer", (), {"stdout": "SAM CLI, version 1.170.0"}),
        )

    @staticmethod
    def verdicts(account: FakeAccount, **changed: str) -> dict[str, Verdict]:
        plan = Plan(PARAMETERS | changed, 4.02)
        return {finding.check: finding.verdict for finding in preflight.look(stack_in(account), plan)}

    def test_finds_an_account_ready(self, console: Console) -> None:
        assert preflight.run(stack_in(FakeAccount()), Plan(PARAMETERS, 4.02), console) == 0
        assert "Ready to deploy." in said(console)

    @pytest.mark.parametrize(
        ("account", "changed", "check", "verdict"),
        [
            (FakeAccount(concurrency=10), {}, "Lambda concurrency", Verdict.OK),
            (FakeAccount(concurrency=10), {"ProcessImageConcurrency": "10"}, "Lambda concurrency", Verdict.FAILURE),
            (FakeAccount(role=""), {}, "API log role", Verdict.FAILURE),
            (FakeAccount(stack="ROLLBACK_COMPLETE"), {}, "stack", Verdict.FAILURE),
            (FakeAccount(stack="UPDATE_IN_PROGRESS"), {}, "stack", Verdict.FAILURE),
            (FakeAccount(stack="UPDATE_COMPLETE"), {}, "stack", Verdict.OK),
            (FakeAccount(denied=("iam:CreateRole",)), {}, "permissions", Verdict.WARNING),
            (FakeAccount(arn="arn:aws:iam::123456789012:root"), {}, "permissions", Verdict.WARNING),
            (FakeAccount(arn=""), {}, "credentials", Verdict.FAILURE),
            (FakeAccount(leftovers=("arn:aws:s3:::old",)), {}, "leftovers", Verdict.WARNING),
            (
                FakeAccount(broker_versions=("3.13",)),
                {"CreateRabbitMqBroker": "true"},
                "RabbitMQ broker",
                Verdict.FAILURE,
            ),
            (FakeAccount(), {"CreateRabbitMqBroker": "true"}, "RabbitMQ broker", Verdict.OK),
            (FakeAccount(denied=("cloudfront:CreateDistribution",)), {}, "permissions", Verdict.OK),
            (
                FakeAccount(denied=("cloudfront:CreateDistribution",)),
                {"Delivery": "true"},
                "permissions",
                Verdict.WARNING,
            ),
            (FakeAccount(), {"Delivery": "true"}, "delivery", Verdict.OK),
        ],
    )
    def test_judges(self, account: FakeAccount, changed: dict[str, str], check: str, verdict: Verdict) -> None:
        assert self.verdicts(account, **changed)[check] is verdict

    def test_does_not_ask_for_the_log_role_without_the_api(self) -> None:
        assert "API log role" not in self.verdicts(FakeAccount(role=""), HttpApi="false")

    def test_delivery_is_not_possible_everywhere(self) -> None:
        stack = replace(stack_in(FakeAccount()), region="cn-north-1")
        found = {one.check: one.verdict for one in preflight.look(stack, Plan(PARAMETERS | {"Delivery": "true"}, 4.02))}
        assert found["delivery"] is Verdict.FAILURE

    def test_a_refused_call_is_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(_: FakeAccount) -> Any:
            raise refusal("AccessDenied")

        monkeypatch.setattr(FakeAccount, "get_account_settings", refuse)
        assert self.verdicts(FakeAccount())["concurrency"] is Verdict.WARNING

    def test_an_answer_that_is_not_from_aws_is_a_failed_check_and_no_stack_trace(self, console: Console) -> None:
        # given something in between that answers each request with a page
        class Page(io.BytesIO):
            def stream(self, **_: Any) -> Iterator[bytes]:
                yield self.read()

        def answer(request: Any, **_: Any) -> AWSResponse:
            return AWSResponse(request.url, 502, HTTPHeaders(), Page(b"<!doctype html><title>Bad gateway</title>"))

        client = boto3.Session("AKIA", "secret", region_name="eu-central-1").client
        account = FakeStack(
            "darkroom", "eu-central-1", {}, {"sts": client("sts", config=Config(retries={"max_attempts": 0}))}
        )
        account.client("sts").meta.events.register("before-send", answer)
        # then
        assert preflight.run(account, Plan(PARAMETERS, 4.02), console) == 1
        text = said(console)
        assert "the answer cannot be read" in text
        assert "doctype" not in text

    def test_plans_what_samconfig_deploys(self) -> None:
        plan = preflight.plan_of("default", {"HttpApi": "false"})
        assert (plan.parameters["GradualRollout"], plan.parameters["HttpApi"]) == ("false", "false")
        assert plan.is_on("Orders")
        assert 0 < plan.monthly_dollars < 10


class TestSet:
    ACCOUNT: Callable[[], FakeAccount] = staticmethod(
        lambda: FakeAccount(stack="UPDATE_COMPLETE", parameters=PARAMETERS | {"LogRetentionDays": "7"})
    )

    def test_changes_one_value_and_keeps_the_template_and_all_others(self, console: Console) -> None:
        account = self.ACCOUNT()
        assert parameters.run(stack_in(account), ["ProcessImageConcurrency=20"], console, lambda _: True, {}) == 0
        (call,) = account.updates
        changed = [p for p in call["Parameters"] if "ParameterValue" in p]
        assert call["UsePreviousTemplate"]
        assert changed == [{"ParameterKey": "ProcessImageConcurrency", "ParameterValue": "20"}]
        assert {p["ParameterKey"] for p in call["Parameters"]} == set(account.parameters)

    def test_warns_if_the_next_deployment_undoes_it(self, console: Console) -> None:
        configured = parameters.configured(
            {
                "version": 0.1,
                "default": {
                    "global": {"parameters": {"stack_name": "darkroom"}},
                    "deploy": {"parameters": {"parameter_overrides": ["LogRetentionDays=7"]}},
                },
            },
            "darkroom",
        )
        parameters.run(stack_in(self.ACCOUNT()), ["LogRetentionDays=30"], console, lambda _: True, configured)
        assert "the next sam" in said(console)

    def test_changes_nothing_that_is_refused_or_the_same(self, console: Console) -> None:
        account = self.ACCOUNT()
        assert parameters.run(stack_in(account), ["Orders=false"], console, lambda _: False, {}) == 0
        assert parameters.run(stack_in(account), ["Orders=true"], console, lambda _: True, {}) == 0
        assert account.updates == []

    @pytest.mark.parametrize(
        ("assignment", "reason"),
        [
            ("ProcessImageConcurency=20", "has no parameter ProcessImageConcurency"),
            ("ProcessImageConcurrency", "is not of the form Name=value"),
        ],
    )
    def test_names_what_is_wrong(self, console: Console, assignment: str, reason: str) -> None:
        with pytest.raises(OperationsError, match=reason):
            parameters.run(stack_in(self.ACCOUNT()), [assignment], console, lambda _: True, {})

    def test_never_takes_the_broker_out_of_the_stack(self, console: Console) -> None:
        account = FakeAccount(stack="UPDATE_COMPLETE", parameters={"CreateRabbitMqBroker": "true"})
        with pytest.raises(OperationsError, match="would take it out of the stack"):
            parameters.run(stack_in(account), ["CreateRabbitMqBroker=false"], console, lambda _: True, {})
