"""`make preflight`: look at an account before a stack is deployed to it, and say what would go wrong."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import boto3
import yaml
from botocore.exceptions import ClientError
from darkroom.aws_faults import error_code
from rich.console import Console
from rich.table import Table

from operations.deployed import DeployedStack, samconfig
from operations.errors import AWS_ERRORS, reason_of
from operations.parameters import parse_assignments
from operations.terminal import printable

_TEMPLATE = Path(__file__).resolve().parent.parent / "template.yaml"
_OLDEST_SAM = (1, 120, 0)
# CloudFormation needs these first of all; the list is not complete, its denial is certain trouble.
_ACTIONS = (
    "cloudformation:CreateChangeSet",
    "cloudformation:ExecuteChangeSet",
    "s3:CreateBucket",
    "s3:PutObject",
    "iam:CreatePolicy",
    "iam:CreateRole",
    "iam:PassRole",
    "lambda:CreateFunction",
    "lambda:CreateEventSourceMapping",
    "sqs:CreateQueue",
    "dynamodb:CreateTable",
    "sns:CreateTopic",
    "kms:CreateKey",
    "logs:CreateLogGroup",
    "cloudwatch:PutMetricAlarm",
)
_ACTIONS_OF_ORDERS = ("secretsmanager:CreateSecret",)
_ACTIONS_OF_API = ("apigateway:POST",)
_ACTIONS_OF_DELIVERY = (
    "cloudfront:CreateDistribution",
    "cloudfront:CreateOriginAccessControl",
    "cloudfront:CreateCachePolicy",
    "cloudfront:CreateResponseHeadersPolicy",
    "cloudfront:CreateFunction",
    "cloudfront:PublishFunction",
    "lambda:CreateFunctionUrlConfig",
)
_FAILED_FOR_GOOD = {
    "ROLLBACK_COMPLETE": "It was never created. Delete it: sam delete",
    "ROLLBACK_FAILED": "It was never created. Delete it: sam delete",
    "DELETE_FAILED": "Delete it to the end: sam delete",
    "UPDATE_ROLLBACK_FAILED": "Continue the rollback in the CloudFormation console",
}


class Verdict(Enum):
    """What a check found: all well, something to know, or something that stops the deployment."""

    OK = "[green]OK[/]"
    WARNING = "[yellow]look[/]"
    FAILURE = "[bold red]fails[/]"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; ``fix`` is one line on what to do, empty where all is well."""

    check: str
    verdict: Verdict
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Plan:
    """What would be deployed: the template's parameters with the values that the deployment will give them."""

    parameters: Mapping[str, str]
    monthly_dollars: float

    def is_on(self, parameter: str) -> bool:
        """Whether a true-or-false parameter is true; a parameter that the template lacks is on."""
        return self.parameters.get(parameter, "true") == "true"


def plan_of(environment: str, given: Mapping[str, str]) -> Plan:
    """What `sam deploy` would deploy.

    Parameters
    ----------
    environment:
        Of samconfig.toml, by the profile's name; `default` where it has none of this name.
    given:
        Parameters that override the environment's.
    """
    from benchmarks.cost.bill import Load, bill_of_ours
    from benchmarks.cost.function_seconds import load

    config = samconfig()
    section = config.get(environment) or config["default"]
    overrides = section.get("deploy", {}).get("parameters", {}).get("parameter_overrides", [])
    parameters = {**_template_defaults(), **parse_assignments(overrides), **given}
    fixed = bill_of_ours(Load(1), load(), parameters).fixed
    return Plan(parameters, sum(line.dollars for line in fixed))


class _Parameters(yaml.CSafeLoader):
    """Reads a template for its parameters: what a function of CloudFormation yields does not matter."""


_Parameters.add_multi_constructor("!", lambda *_: None)


def _template_defaults() -> dict[str, str]:
    template = yaml.load(_TEMPLATE.read_text(), _Parameters)  # noqa: S506 # it makes no objects
    return {name: str(parameter.get("Default", "")) for name, parameter in template["Parameters"].items()}


def run(account: DeployedStack, plan: Plan, console: Console) -> int:
    """Run every check and show the table; returns 0, or 1 where a check fails."""
    with console.status("Looking at the account ..."):
        findings = list(look(account, plan))
    table = Table(header_style="bold", title=f"{account.stack_name} in {account.region}", title_justify="left")
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found, and what to do", overflow="fold")
    for finding in findings:
        text = printable(finding.detail) + (f"\n→ {printable(finding.fix)}" if finding.fix else "")
        table.add_row(finding.check, finding.verdict.value, text)
    console.print(table)
    failed = sum(finding.verdict is Verdict.FAILURE for finding in findings)
    console.print("Ready to deploy." if not failed else f"Not ready: {failed} of {len(findings)} checks fail.")
    return 1 if failed else 0


def look(account: DeployedStack, plan: Plan) -> Iterator[Finding]:
    """Run every check, in the order in which a deployment meets them."""
    yield _sam_cli()
    yield _python(plan)
    identity = _credentials(account)
    yield identity
    if identity.verdict is not Verdict.OK:
        return  # without credentials nothing else can be asked
    checks: Sequence[Callable[[DeployedStack, Plan], Finding]] = (
        _stack,
        _leftovers,
        _permissions,
        _concurrency,
        _architecture,
        *((_log_role,) if plan.is_on("HttpApi") else ()),
        *((_delivery,) if _delivers(plan) else ()),
        *((_broker,) if plan.parameters.get("CreateRabbitMqBroker") == "true" else ()),
    )
    for check in checks:
        yield _asked(check, account, plan)
    yield Finding("monthly cost", Verdict.OK, f"about {plan.monthly_dollars:.2f} USD before the first photo", "")


def _asked(check: Callable[[DeployedStack, Plan], Finding], account: DeployedStack, plan: Plan) -> Finding:
    """A check's finding; a question that AWS does not answer is something to know, not a failure."""
    try:
        return check(account, plan)
    except AWS_ERRORS as error:
        name = check.__name__.strip("_").replace("_", " ")
        return Finding(
            name, Verdict.WARNING, f"not checked: {reason_of(error)}", "allow the call, or look in the console"
        )


def _sam_cli() -> Finding:
    local = Path(__file__).resolve().parent.parent / ".local" / "sam" / "bin" / "sam"
    program = shutil.which("sam") or (str(local) if local.exists() else None)
    if not program:
        return Finding("SAM CLI", Verdict.FAILURE, "not found", "pip install aws-sam-cli, or make setup")
    text = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    version = tuple(map(int, found.groups())) if found else (0, 0, 0)
    if version < _OLDEST_SAM:
        oldest = ".".join(map(str, _OLDEST_SAM))
        return Finding("SAM CLI", Verdict.FAILURE, text.strip() or "no version", f"update it to {oldest} or newer")
    return Finding("SAM CLI", Verdict.OK, f"{'.'.join(map(str, version))} ({program})")


def _python(plan: Plan) -> Finding:
    runtime = plan.parameters["PythonRuntime"]
    if shutil.which(runtime):
        return Finding("Python", Verdict.OK, f"{runtime}, as the functions run on")
    return Finding(
        "Python",
        Verdict.WARNING,
        f"{runtime} is not on the PATH: the build works, the functions start slower",
        f"install {runtime}, or set PythonRuntime to a version that is here",
    )


def _credentials(account: DeployedStack) -> Finding:
    try:
        who = account.client("sts").get_caller_identity()
    except AWS_ERRORS as error:
        return Finding("credentials", Verdict.FAILURE, reason_of(error), "aws sts get-caller-identity must work first")
    return Finding("credentials", Verdict.OK, who["Arn"])


def _stack(account: DeployedStack, _: Plan) -> Finding:
    try:
        (stack,) = account.client("cloudformation").describe_stacks(StackName=account.stack_name)["Stacks"]
    except ClientError as error:
        if error_code(error) != "ValidationError":
            raise
        return Finding("stack", Verdict.OK, "does not exist yet: it will be created")
    status = stack["StackStatus"]
    if status in _FAILED_FOR_GOOD:
        return Finding("stack", Verdict.FAILURE, status, _FAILED_FOR_GOOD[status])
    if status.endswith("_IN_PROGRESS"):
        return Finding("stack", Verdict.FAILURE, status, "wait until it is done")
    return Finding("stack", Verdict.OK, f"{status}: it will be updated")


def _leftovers(account: DeployedStack, _: Plan) -> Finding:
    """What an earlier stack of this name left behind: it has other names, so nothing collides, but it costs."""
    try:
        account.client("cloudformation").describe_stacks(StackName=account.stack_name)
    except ClientError as error:
        if error_code(error) != "ValidationError":
            raise
    else:
        return Finding("leftovers", Verdict.OK, "the stack exists, its resources are its own")
    pages = account.client("resourcegroupstaggingapi").get_paginator("get_resources")
    tag = {"Key": "aws:cloudformation:stack-name", "Values": [account.stack_name]}
    found = [one["ResourceARN"] for page in pages.paginate(TagFilters=[tag]) for one in page["ResourceTagMappingList"]]
    if not found:
        return Finding("leftovers", Verdict.OK, "none of an earlier stack of this name")
    return Finding(
        "leftovers",
        Verdict.WARNING,
        f"{len(found)} resources of an earlier stack remain, such as {found[0]}. The new stack does not use them",
        "copy what you need from them, then delete them",
    )


def _permissions(account: DeployedStack, plan: Plan) -> Finding:
    arn = account.client("sts").get_caller_identity()["Arn"]
    # An assumed role's session has no policies of its own: ask of the role.
    if session := re.fullmatch(r"arn:(aws[a-z-]*):sts::(\d+):assumed-role/([^/]+)/.+", arn):
        arn = account.client("iam").get_role(RoleName=session[3])["Role"]["Arn"]
    if arn.endswith(":root"):
        return Finding("permissions", Verdict.WARNING, "you are the root user, who may do all", "use a role instead")
    actions = [*_ACTIONS]
    actions += _ACTIONS_OF_ORDERS if plan.is_on("Orders") else ()
    actions += _ACTIONS_OF_API if plan.is_on("HttpApi") else ()
    actions += _ACTIONS_OF_DELIVERY if _delivers(plan) else ()
    answer = account.client("iam").simulate_principal_policy(PolicySourceArn=arn, ActionNames=actions)
    denied = [r["EvalActionName"] for r in answer["EvaluationResults"] if r["EvalDecision"] != "allowed"]
    if denied:
        return Finding(
            "permissions",
            Verdict.WARNING,
            f"on all resources {arn} is not allowed: {', '.join(denied)}",
            "grant them for this stack, or deploy with a CloudFormation role (deployment/deploy-role.yaml)",
        )
    return Finding("permissions", Verdict.OK, f"{len(actions)} actions that a deployment needs are allowed")


def concurrency_asked(plan: Plan) -> int:
    """Most functions that the stack's queues run at once, by the parameters."""
    asked = int(plan.parameters["ProcessImageConcurrency"]) + int(plan.parameters.get("RerenderConcurrency", 0))
    if plan.is_on("Orders"):
        asked += int(plan.parameters["ProcessOrderConcurrency"])
    if plan.parameters.get("RabbitMqBrokerArn") or plan.parameters.get("CreateRabbitMqBroker") == "true":
        asked += 2  # a mapping to RabbitMQ reads with one poller, and there are two
    return asked


def _concurrency(account: DeployedStack, plan: Plan) -> Finding:
    limit = account.client("lambda").get_account_settings()["AccountLimit"]
    left, asked = limit["UnreservedConcurrentExecutions"], concurrency_asked(plan)
    detail = f"the account has {limit['ConcurrentExecutions']}, {left} of them unreserved; the stack asks for {asked}"
    if asked > left:
        return Finding(
            "Lambda concurrency",
            Verdict.FAILURE,
            detail,
            "lower ProcessImageConcurrency and ProcessOrderConcurrency, or ask AWS for more: aws service-quotas"
            " request-service-quota-increase --service-code lambda --quota-code L-B99A9384 --desired-value 1000",
        )
    return Finding("Lambda concurrency", Verdict.OK, detail)


def _architecture(account: DeployedStack, plan: Plan) -> Finding:
    architecture = plan.parameters["Architecture"]
    partition = boto3.Session().get_partition_for_region(account.region)
    if architecture == "arm64" and partition != "aws":
        return Finding(
            "architecture",
            Verdict.WARNING,
            f"AWS does not offer arm64 in every region of {partition}",
            "look at the Lambda pricing page of the region; Architecture=x86_64 works everywhere",
        )
    return Finding("architecture", Verdict.OK, f"Lambda runs {architecture} in {account.region}")


def _log_role(account: DeployedStack, _: Plan) -> Finding:
    if "ApiUrl" in account.outputs:  # of the laptop stack, whose API Gateway has no such role
        return Finding("API log role", Verdict.OK, "the stage of the API exists already")
    if role := account.client("apigateway").get_account().get("cloudwatchRoleArn"):
        return Finding("API log role", Verdict.OK, role)
    return Finding(
        "API log role",
        Verdict.FAILURE,
        "API Gateway has no role for its logs in this region: the stage would not be created",
        "docs/deploy.md has the three commands, once per region. Or deploy without the API: HttpApi=false",
    )


def _delivers(plan: Plan) -> bool:
    return plan.parameters.get("Delivery") == "true"


def _delivery(account: DeployedStack, _: Plan) -> Finding:
    partition = boto3.Session().get_partition_for_region(account.region)
    if partition == "aws":
        return Finding("delivery", Verdict.OK, "CloudFront serves the renditions, after some minutes")
    return Finding(
        "delivery",
        Verdict.FAILURE,
        f"Darkroom does not deliver by CloudFront in the partition {partition}",
        "deploy with Delivery=false",
    )


def _broker(account: DeployedStack, plan: Plan) -> Finding:
    wanted, mode = plan.parameters["RabbitMqInstanceType"], plan.parameters["RabbitMqDeploymentMode"]
    version = plan.parameters["RabbitMqEngineVersion"]
    options = account.client("mq").describe_broker_instance_options(EngineType="RABBITMQ", HostInstanceType=wanted)
    for option in options["BrokerInstanceOptions"]:
        if mode in option["SupportedDeploymentModes"] and version in option["SupportedEngineVersions"]:
            return Finding("RabbitMQ broker", Verdict.OK, f"{wanted}, {version}, {mode}")
    return Finding(
        "RabbitMQ broker",
        Verdict.FAILURE,
        f"{account.region} has no {wanted} with RabbitMQ {version} as {mode}",
        "aws mq describe-broker-instance-options --engine-type RABBITMQ lists what it has",
    )
