"""The stack of template.yaml on LocalStack, a second CloudFormation, for the tests in this folder."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.credentials import Credentials

from local.config import PROJECT, keep_out_the_person, tool
from local.emulators.processes import Server
from operations.deployed import DeployedStack, make_client
from tests.api_expectations import READ, SUBMIT, Api
from tests.ports import free_port
from tests.template.template import as_written

BUCKET, STACK, REGION = "artifacts", "darkroom", "eu-central-1"
BROKER = f"arn:aws:mq:{REGION}:000000000000:broker:rabbit:b-1234abcd"
_SERVICES = (
    "apigateway,cloudformation,cloudwatch,dynamodb,events,iam,kms,lambda,logs,resourcegroupstaggingapi,s3,secretsmanager,"
    "sns,sqs,sts"
)
_SECONDS_FOR_SAM = 900
_KEY = "test"  # LocalStack takes any
# What a stack is made from.
_SOURCES = ("template.yaml", "api", "functions", "layers", "schemas")


@dataclass(frozen=True)
class LocalStack(DeployedStack):
    """The stack as it was deployed to LocalStack. Its outputs are those of the moment."""

    endpoint_url: str
    folder: Path

    def client(self, service: Any) -> Any:
        """A client of one of LocalStack's services."""
        # A call that is sent again while the first is still answered fails.
        return make_client(self._session, service, endpoint_url=self.endpoint_url, config=Config(read_timeout=300))

    @cached_property
    def _session(self) -> boto3.Session:
        return boto3.Session(aws_access_key_id=_KEY, aws_secret_access_key=_KEY, region_name=REGION)

    def signing_credentials(self) -> Credentials:
        """LocalStack looks at no signature."""
        return Credentials(_KEY, _KEY)

    def resources(self) -> dict[str, str]:
        """The physical id of each resource by its logical id."""
        pages = self.cloudformation.get_paginator("list_stack_resources").paginate(StackName=self.stack_name)
        return {
            one["LogicalResourceId"]: one["PhysicalResourceId"]
            for page in pages
            for one in page["StackResourceSummaries"]
        }

    def parameters(self) -> dict[str, str]:
        """The stack's parameters."""
        (description,) = self.cloudformation.describe_stacks(StackName=self.stack_name)["Stacks"]
        return {p["ParameterKey"]: p["ParameterValue"] for p in description["Parameters"]}

    def sam(self, *arguments: str | Path) -> str:
        """Run a command of the SAM CLI; returns what it said. Raises AssertionError if it fails."""
        environment = dict(os.environ)
        keep_out_the_person(environment)
        environment |= {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _KEY,
            "SAM_CLI_POLL_DELAY": "1",
        }
        done = subprocess.run(  # noqa: S603 # our own commands
            [tool("sam", "sam"), *arguments, "--stack-name", self.stack_name, "--region", REGION],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS_FOR_SAM,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def deploy(self, folder: Path, parameters: Mapping[str, str]) -> None:
        """`sam deploy` of the template in a folder, with these parameters on the command line."""
        template = as_written((folder / "template.yaml").read_text(), folder)
        for resource in template["Resources"].values():
            for name in {"CodeUri", "ContentUri"} & resource.get("Properties", {}).keys():
                resource["Properties"][name] = str(folder / resource["Properties"][name])
        plain = self.folder / "template.json"  # SAM reads JSON ten times as fast as YAML
        plain.write_text(json.dumps(template))
        overrides = [f"{name}={value}" for name, value in parameters.items()]
        self.sam(
            *("deploy", "--template-file", plain, "--s3-bucket", BUCKET, "--capabilities", "CAPABILITY_IAM"),
            *(["--parameter-overrides", *overrides] if overrides else []),
        )


@pytest.fixture(scope="session")
def localstack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """LocalStack without a stack."""
    folder = tmp_path_factory.mktemp("localstack")
    server = _server(folder, free_port())
    server.start(
        tool("localstack", "python"),
        environment={
            "SERVICES": _SERVICES,
            "GATEWAY_LISTEN": server.health_url.split("/")[2],
            "CFN_IGNORE_UNSUPPORTED_RESOURCE_TYPES": "1",  # docs/aws-differences.md lists them
            "LAMBDA_LIMITS_CONCURRENT_EXECUTIONS": "10",  # as in a new account
            "DISABLE_EVENTS": "1",  # no telemetry
            "SKIP_SSL_CERT_DOWNLOAD": "1",  # no network at all
            "DNS_ADDRESS": "0",  # no DNS server: it would have port 53
            "HOME": str(folder),  # it keeps a cache there
            "FILESYSTEM_ROOT": str(folder),
            "TMPDIR": str(folder),
        },
        folder=folder,
    )
    try:
        stack = LocalStack(STACK, REGION, {}, server.health_url.removesuffix("/_localstack/health"), folder)
        stack.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        yield stack
    finally:
        server.stop()


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the last commit had that differs from what is here.

    A clone without history has no such commit: then it is what is here, with messages that are kept for a shorter time.
    """
    folder = tmp_path_factory.mktemp("before")
    for commit in _git("log", "--format=%H", "-3", "--", *_SOURCES[:2]).decode().split():
        if _git("diff", "--name-only", commit, "--", *_SOURCES[:2]):
            with tarfile.open(fileobj=io.BytesIO(_git("archive", commit, *_SOURCES))) as archive:
                archive.extractall(folder, filter="data")
            return folder
    for source in _SOURCES:
        copy = shutil.copytree if (PROJECT / source).is_dir() else shutil.copy
        copy(PROJECT / source, folder / source)
    template = folder / "template.yaml"
    template.write_text(
        template.read_text().replace("MessageRetentionPeriod: 1209600", "MessageRetentionPeriod: 86400")
    )
    return folder


@pytest.fixture(scope="session")
def stack(localstack: LocalStack, before: Path) -> LocalStack:
    """The stack with every flow: created from the template before its last change, and updated to what is here.

    The second deployment names no parameter.
    """
    everything = {
        "Delivery": "true",
        "RabbitMqIntake": "true",
        "RabbitMqBrokerArn": BROKER,
        "RabbitMqSecretArn": f"arn:aws:secretsmanager:{REGION}:000000000000:secret:broker-AbCdEf",
        "RabbitMqReads": "false",  # LocalStack has no mappings of Amazon MQ
        "CreateDashboard": "true",
        "ResultsAreRead": "true",
        "ProcessImageMemory": "2048",
    }
    localstack.deploy(before, everything)
    localstack.deploy(PROJECT, {})
    return localstack


@pytest.fixture(scope="session")
def api(stack: LocalStack) -> Api:
    """The API with its key. LocalStack takes requests unsigned: who may call is tested on the laptop stack."""
    made = stack.resources()
    key = stack.client("apigateway").get_api_key(apiKey=made["QueuesApiKey"], includeValue=True)
    return Api(
        url=f"{stack.endpoint_url}/_aws/execute-api/{made['QueuesApi']}/v1",
        key=key["value"],
        sqs=stack.sqs,
        queues={name: made[name] for name in (*READ.values(), *SUBMIT.values())},
    )


def _git(*arguments: str) -> bytes:
    """What a command of git says; nothing where there is no git, or no repository."""
    if not (git := shutil.which("git")):
        return b""
    return subprocess.run([git, "-C", PROJECT, *arguments], capture_output=True, check=False).stdout  # noqa: S603


def _server(folder: Path, port: int) -> Server:
    return Server(
        name="LocalStack",
        script=PROJECT / "tests" / "api" / "run_localstack.py",
        pid_file=folder / "localstack.pid",
        log=folder / "localstack.log",
        health_url=f"http://127.0.0.1:{port}/_localstack/health",
        clean_up=lambda: shutil.rmtree(folder, ignore_errors=True),
        seconds_to_stop=20,
    )
