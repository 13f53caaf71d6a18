"""What `make up` repairs, and what it says if it cannot start."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from local.chaos.fault_injection import held_back_messages, short_visibility
from local.config import PROJECT, LaptopError, LocalConfig
from local.emulators import aws_emulator, payments
from local.stack import TIMEOUT_TAG, Stack, load, up
from tests.console import recording


def test_repairs_the_stack_after_killed_runs(stack: Stack, config: LocalConfig) -> None:
    # given a chaos run that ends where it stands, and a payment provider that somebody killed
    lambda_, sqs = stack.lambda_, stack.sqs
    url, arn = stack.outputs["ImageTasksQueueUrl"], stack.outputs["ImageTasksQueueArn"]
    killed = ExitStack()
    killed.enter_context(short_visibility(stack, url))
    killed.enter_context(held_back_messages(stack, arn))
    secret = stack.outputs["PaymentSecretArn"]
    stack.secretsmanager.put_secret_value(SecretId=secret, SecretString=payments.WRONG_KEY)
    provider = payments.running(config)
    assert provider is not None
    provider.kill()
    provider.wait(60)
    # when
    up(config, recording(132), broker=False)
    # then
    (mapping,) = lambda_.list_event_source_mappings(EventSourceArn=arn)["EventSourceMappings"]
    assert mapping["State"] in ("Enabled", "Enabling")
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])["Attributes"]
    assert attributes == {"VisibilityTimeout": "300"}
    assert TIMEOUT_TAG not in sqs.list_queue_tags(QueueUrl=url).get("Tags", {})
    assert payments.answers(stack.payments_url)
    assert stack.secretsmanager.get_secret_value(SecretId=secret)["SecretString"] == config.keys.stripe_key


def test_a_taken_port_is_reported_in_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LaptopError, match=f"Port {port} is taken"):
            aws_emulator.start(LocalConfig(PROJECT / ".local" / "test-taken", port))


def test_without_a_stack_the_commands_say_how_to_start_it() -> None:
    with pytest.raises(LaptopError, match="make up"):
        load(LocalConfig(PROJECT / ".local" / "test-absent", 4766))
