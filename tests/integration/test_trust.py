"""The laptop stack enforces what AWS would: identities, their permissions, and TLS."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.exceptions import ClientError

from local.config import LocalConfig
from local.emulators import aws_emulator, mq_poller, payments, rabbitmq
from local.emulators.docker_bridge import docker_bridge
from local.stack import Stack
from tests.ports import listening


@pytest.fixture
def user(stack: Stack) -> Iterator[dict[str, str]]:
    """The keys of a user who may do anything with S3 as far as IAM is concerned, and nothing else."""
    iam = _client("iam", stack, stack.credentials)
    name = f"user-{uuid4().hex}"
    iam.create_user(UserName=name)
    allow = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    iam.put_user_policy(UserName=name, PolicyName="s3", PolicyDocument=json.dumps(allow))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    yield {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    iam.delete_user_policy(UserName=name, PolicyName="s3")
    iam.delete_user(UserName=name)


def _client(service: Any, stack: Stack, keys: dict[str, str], config: LocalConfig | None = None) -> Any:
    """A client without TLS, or with it where the place of the emulator's certificate is given."""
    options: dict[str, Any] = {"endpoint_url": stack.endpoint_url}
    if config is not None:
        options = {"endpoint_url": f"https://127.0.0.1:{config.tls_port}", "verify": str(config.certificate)}
    client: Any = boto3.client
    return client(service, region_name=stack.region, **options, **keys)


def test_a_user_without_permission_is_refused(stack: Stack, user: dict[str, str]) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        _client("sqs", stack, user).receive_message(QueueUrl=stack.outputs["ResultsQueueUrl"])


@pytest.fixture
def producer(stack: Stack) -> Iterator[dict[str, str]]:
    """The keys of a user with the managed policy of a producer's backend."""
    iam = _client("iam", stack, stack.credentials)
    name, policy = f"producer-{uuid4().hex}", stack.outputs["ProducerPolicyArn"]
    iam.create_user(UserName=name)
    iam.attach_user_policy(UserName=name, PolicyArn=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    yield {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    iam.detach_user_policy(UserName=name, PolicyArn=policy)
    iam.delete_user(UserName=name)


def test_a_producer_puts_uploads_and_reads_what_they_became(
    stack: Stack, config: LocalConfig, producer: dict[str, str]
) -> None:
    # given a name that S3 sends no event for
    s3, dynamodb, sqs = (_client(service, stack, producer, config) for service in ("s3", "dynamodb", "sqs"))
    upload: Any = {"Bucket": stack.outputs["UploadsBucketName"], "Key": uuid4().hex}
    rendition: Any = {"Bucket": stack.outputs["RenditionsBucketName"], "Key": uuid4().hex}
    record: Any = {"TableName": stack.outputs["ImagesTableName"], "Key": {"image_key": {"S": upload["Key"]}}}
    stack.s3.put_object(**rendition, Body=b"rendered")
    # when it does what the policy is for
    s3.put_object(**upload, Body=b"no photo")
    assert s3.get_object(**rendition)["Body"].read() == b"rendered"
    assert "Item" not in dynamodb.get_item(**record)
    # then it can do nothing else
    queue_url = stack.outputs["ImageTasksQueueUrl"]
    for act, arguments in (
        (s3.get_object, upload),
        (s3.delete_object, upload),
        (s3.put_object, rendition | {"Body": b"mine"}),
        (dynamodb.delete_item, record),
        (sqs.send_message, {"QueueUrl": queue_url, "MessageBody": "{}"}),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            act(**arguments)


@pytest.mark.parametrize("bucket", ["UploadsBucketName", "RenditionsBucketName"])
def test_buckets_are_reached_over_tls_only(
    stack: Stack, config: LocalConfig, user: dict[str, str], bucket: str
) -> None:
    name = stack.outputs[bucket]
    assert _client("s3", stack, user, config).list_objects_v2(Bucket=name, MaxKeys=1)
    with pytest.raises(ClientError, match="AccessDenied"):
        _client("s3", stack, user).list_objects_v2(Bucket=name, MaxKeys=1)


@pytest.mark.usefixtures("stack")
def test_the_certificate_is_valid_for_functions_in_docker(config: LocalConfig) -> None:
    trust = ssl.create_default_context(cafile=str(config.certificate))
    with (
        socket.create_connection(("127.0.0.1", config.tls_port), 10) as connection,
        trust.wrap_socket(connection, server_hostname="host.docker.internal") as secure,
    ):
        assert secure.version() == "TLSv1.3"


@pytest.mark.usefixtures("broker")
def test_everything_listens_only_on_the_loopback_address_or_for_containers(stack: Stack, config: LocalConfig) -> None:
    processes = [p for server in (aws_emulator, payments, rabbitmq, mq_poller) if (p := server.running(config))]
    assert len(processes) == 4
    ports = (config.port, config.tls_port, config.payments_port, config.rabbitmq_port, config.rabbitmq_node_port)
    bridge = docker_bridge()
    to_containers = {(bridge.address, port) for port in (config.tls_port, config.payments_port)} if bridge else set()
    assert listening(processes) == {("127.0.0.1", port) for port in ports} | to_containers


@pytest.mark.parametrize("name", ["ProcessImage", "ProcessOrder", "RelayRabbitMq"])
def test_a_function_runs_under_its_own_role(stack: Stack, name: str) -> None:
    function = stack.lambda_.get_function_configuration(FunctionName=stack.outputs[f"{name}FunctionName"])
    assert f"{name}Role" in function["Role"]
