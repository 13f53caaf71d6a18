"""LocalStack with the API of template.yaml and its queues, for the tests in this folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from local.config import PROJECT, tool
from local.emulators.processes import Server
from tests.api.part import part_for_api
from tests.api_expectations import READ, SUBMIT, Api
from tests.ports import free_port
from tests.template.template import ROOT, load

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_SERVICES = "apigateway,cloudformation,iam,logs,s3,sqs,sts"
_REGION = "eu-central-1"
_STACK = "darkroom"


@dataclass(frozen=True)
class LocalStack:
    """The API as it was deployed to LocalStack."""

    endpoint_url: str
    outputs: dict[str, str]
    resources: dict[str, str]

    def client(self, service: Any) -> Any:
        """A client of one of LocalStack's services; it takes any credentials."""
        session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=_REGION)
        return session.client(service, endpoint_url=self.endpoint_url)

    @property
    def sqs(self) -> SQSClient:
        return self.client("sqs")  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def localstack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    folder = tmp_path_factory.mktemp("localstack")
    server = _server(folder, free_port())
    server.start(
        tool("localstack", "python"),
        environment={
            "SERVICES": _SERVICES,
            "GATEWAY_LISTEN": server.health_url.split("/")[2],
            "PROVIDER_OVERRIDE_CLOUDFORMATION": "engine-legacy",  # the new one knows no `QueuesApi.Stage`
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
        yield _deploy(server.health_url.removesuffix("/_localstack/health"))
    finally:
        server.stop()


@pytest.fixture(scope="session")
def api(localstack: LocalStack) -> Api:
    """The API with its key. LocalStack takes requests unsigned: who may call is tested on the laptop stack."""
    made = localstack.resources
    key = localstack.client("apigateway").get_api_key(apiKey=made["QueuesApiKey"], includeValue=True)
    return Api(
        url=f"{localstack.endpoint_url}/_aws/execute-api/{made['QueuesApi']}/v1",
        key=key["value"],
        sqs=localstack.sqs,
        queues={name: made[name] for name in (*READ.values(), *SUBMIT.values())},
    )


def _deploy(endpoint_url: str) -> LocalStack:
    stack = LocalStack(endpoint_url, {}, {})
    cloudformation = stack.client("cloudformation")
    template = part_for_api(load((ROOT / "template.yaml").read_text()))
    s3 = stack.client("s3")
    s3.create_bucket(Bucket=_STACK, CreateBucketConfiguration={"LocationConstraint": _REGION})
    s3.put_object(Bucket=_STACK, Key="template.json", Body=json.dumps(template))  # too large to be sent along
    cloudformation.create_stack(
        StackName=_STACK,
        TemplateURL=f"{endpoint_url}/{_STACK}/template.json",
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    try:
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName=_STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 480}
        )
    except Exception:
        events = cloudformation.describe_stack_events(StackName=_STACK)["StackEvents"]
        for event in events:
            if "FAILED" in event["ResourceStatus"] and event.get("ResourceStatusReason"):
                pytest.fail(f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason')}", pytrace=False)
        raise
    (description,) = cloudformation.describe_stacks(StackName=_STACK)["Stacks"]
    stack.outputs.update({o["OutputKey"]: o["OutputValue"] for o in description.get("Outputs", [])})
    made = cloudformation.describe_stack_resources(StackName=_STACK)["StackResources"]
    stack.resources.update({r["LogicalResourceId"]: r["PhysicalResourceId"] for r in made if "PhysicalResourceId" in r})
    return stack


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
