"""A deployed stack, on the laptop or in AWS: its outputs and its clients."""

from __future__ import annotations

import tomllib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from darkroom.aws_faults import error_code

from operations.errors import OperationsError

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient

_SAMCONFIG = Path(__file__).resolve().parent.parent / "samconfig.toml"
# A person waits, so report a lost network within a minute.
_CONFIG = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 4})


_MAKES_CLIENTS = Lock()


def make_client(session: boto3.Session, service: Any, **settings: Any) -> Any:
    """Make a client of a session that is kept: one at a time, as boto3 requires of threads.

    A new session reads every endpoint of AWS, which takes a quarter of a second.
    https://docs.aws.amazon.com/boto3/latest/guide/session.html#multithreading-or-multiprocessing-with-sessions
    """
    with _MAKES_CLIENTS:
        return session.client(service, **settings)


@dataclass(frozen=True)
class DeployedStack(ABC):
    """A deployed stack: its name and region, its outputs, and its clients."""

    stack_name: str
    region: str
    outputs: dict[str, str]

    @property
    def feeds_all_metrics(self) -> bool:
        """Whether every metric that an alarm evaluates can have data, as in AWS."""
        return True

    @abstractmethod
    def client(self, service: Any) -> Any:
        """Make a client of a service, by its name in boto3."""

    @abstractmethod
    def signing_credentials(self) -> Credentials:
        """The credentials that sign a request to the stack's API. Raises OperationsError if there are none."""

    @property
    def account(self) -> str:
        """The AWS account id, as in the stack's ARNs."""
        return self.outputs["ImageTasksQueueArn"].split(":")[4]

    @cached_property
    def s3(self) -> S3Client:
        """The client of S3."""
        return self.client("s3")  # type: ignore[no-any-return]

    @property
    def signing_s3(self) -> S3Client:
        """The client of S3 that signs addresses for others."""
        return self.s3

    @cached_property
    def sqs(self) -> SQSClient:
        """The client of SQS."""
        return self.client("sqs")  # type: ignore[no-any-return]

    @cached_property
    def sns(self) -> SNSClient:
        """The client of SNS."""
        return self.client("sns")  # type: ignore[no-any-return]

    @cached_property
    def secretsmanager(self) -> SecretsManagerClient:
        """The client of Secrets Manager."""
        return self.client("secretsmanager")  # type: ignore[no-any-return]

    @cached_property
    def dynamodb(self) -> DynamoDBClient:
        """The client of DynamoDB."""
        return self.client("dynamodb")  # type: ignore[no-any-return]

    @cached_property
    def lambda_(self) -> LambdaClient:
        """The client of Lambda."""
        return self.client("lambda")  # type: ignore[no-any-return]

    @cached_property
    def logs(self) -> CloudWatchLogsClient:
        """The client of CloudWatch Logs."""
        return self.client("logs")  # type: ignore[no-any-return]

    @cached_property
    def cloudformation(self) -> CloudFormationClient:
        """The client of CloudFormation."""
        return self.client("cloudformation")  # type: ignore[no-any-return]

    @cached_property
    def cloudwatch(self) -> CloudWatchClient:
        """The client of CloudWatch."""
        return self.client("cloudwatch")  # type: ignore[no-any-return]


@dataclass(frozen=True)
class AwsStack(DeployedStack):
    """A stack in AWS, reached with one of the user's profiles."""

    profile: str

    def client(self, service: Any) -> Any:
        """Make a client of a service with the profile's credentials, or those of the environment without a profile."""
        return make_client(self._session, service, config=_CONFIG)

    @property
    def signing_s3(self) -> S3Client:
        """The client of S3 that signs addresses for others: of the bucket's region, by signature version 4."""
        signing = Config(signature_version="s3v4", s3={"addressing_style": "virtual"})
        return self._session.client("s3", config=_CONFIG.merge(signing))

    def signing_credentials(self) -> Credentials:
        """The profile's credentials. Raises OperationsError if there are none."""
        found = self._session.get_credentials()
        if found is None:
            raise OperationsError(f"There are no AWS credentials {_of(self.profile)}.")
        return found

    @cached_property
    def _session(self) -> boto3.Session:
        return boto3.Session(profile_name=self.profile or None, region_name=self.region)


def _of(profile: str) -> str:
    return f"of profile {profile}" if profile else "in the environment"


def account(profile: str, stack_name: str = "", region: str = "") -> AwsStack:
    """Where a stack is, or will be, deployed in AWS; without its outputs.

    Parameters
    ----------
    profile:
        Of the AWS CLI; empty for the credentials of the environment, as a workflow has them.
    stack_name:
        By default the stack name in samconfig.toml, of the environment named like the profile, or else of `default`.
    region:
        By default the profile's.

    Raises
    ------
    OperationsError
        There is no such profile, or no region.
    """
    stack_name = stack_name or stack_name_for(profile, samconfig())
    try:
        region = region or boto3.Session(profile_name=profile or None).region_name or ""
    except BotoCoreError as error:
        raise OperationsError(f"The credentials {_of(profile)} cannot reach AWS: {error}") from error
    if not region:
        raise OperationsError(f"There is no region {_of(profile)}. Set one: REGION=eu-central-1")
    return AwsStack(stack_name, region, {}, profile)


def in_aws(profile: str, stack_name: str = "", region: str = "") -> AwsStack:
    """Find a deployed stack in AWS; the parameters are those of `account`.

    Raises
    ------
    OperationsError
        There is no such profile, region or stack, or the credentials lack the permission to see it.
    """
    stack = account(profile, stack_name, region)
    try:
        (description,) = stack.cloudformation.describe_stacks(StackName=stack.stack_name)["Stacks"]
    except ClientError as error:
        if error_code(error) == "ValidationError":
            raise OperationsError(
                f"There is no stack {stack.stack_name} in {stack.region}. Name yours: STACK=name"
            ) from error
        raise OperationsError(
            f"AWS does not let the credentials {_of(profile)} see stack {stack.stack_name}: {error}"
        ) from error
    except BotoCoreError as error:
        raise OperationsError(f"The credentials {_of(profile)} cannot reach AWS: {error}") from error
    stack.outputs.update({o["OutputKey"]: o["OutputValue"] for o in description.get("Outputs", [])})
    if "ImageTasksQueueArn" not in stack.outputs:
        raise OperationsError(
            f"Stack {stack.stack_name} in {stack.region} is not a Darkroom stack. Name yours: STACK=name"
        )
    return stack


def samconfig() -> dict[str, Any]:
    """What samconfig.toml says."""
    return tomllib.loads(_SAMCONFIG.read_text())


def stack_name_for(profile: str, samconfig: dict[str, Any]) -> str:
    """The stack name that samconfig.toml has for the environment named like the profile, or else for `default`."""
    environment = profile if profile in samconfig else "default"
    return str(samconfig[environment]["global"]["parameters"]["stack_name"])
