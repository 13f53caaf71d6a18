"""The commands a person types, against the stack of the suite."""

from __future__ import annotations

import io
import json
import shutil
import socket
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest
import requests
from darkroom.dead_letters import SqsDeadLetters
from darkroom.errors import ObjectGone, ServiceUnavailable
from rich.console import Console

from local.chaos import command as chaos
from local.chaos.fault_injection import held_back_messages, short_visibility
from local.config import PROJECT, LaptopError, LocalConfig
from local.demo import command as demo
from local.emulators import aws_emulator, payments
from local.outcomes import read_dead_letters
from local.stack import TIMEOUT_TAG, Stack, load, up
from tests.integration.uploading import SAMPLES, wait_for


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=132, highlight=False)


def _said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.usefixtures("broker")
def test_the_demo_ends_as_expected(stack: Stack, config: LocalConfig, console: Console) -> None:
    assert demo.run(config, console, None) == 0, _said(console)
    told = json.loads((config.folder / "demo.json").read_text())
    assert told["as_expected"]
    assert {image["outcome"] for image in told["images"]} == {"Processed", "DeadLettered"}
    assert len(told["dead_letters"]) == sum(image["outcome"] == "DeadLettered" for image in told["images"])
    for image in told["images"]:
        assert image["processing_ms"] is not None
    assert [(o["outcome"], o["charged"], o["told"][:1]) for o in told["orders"]] == [
        ("COMPLETED", 9800, ["OrderCompleted"]),
        ("COMPLETED", 6900, ["OrderCompleted"]),
        ("REJECTED", 0, ["OrderRejected"]),
        ("REJECTED", 0, ["OrderRejected"]),
        ("MalformedMessage", 0, []),
    ]
    assert [(m["arrived"], m["outcome"]) for m in told["rabbitmq"]] == [
        ("ImageTasksQueue", "Processed"),
        ("OrderQueue", "COMPLETED"),
        ("RabbitMqDeadLetterQueue", "MalformedMessage"),
    ]
    assert [(d["state"], len(d["left"]) > 0, d["published_again_ms"] is None) for d in told["deletions"]] == [
        ("DELETED", False, True),
        ("READY", True, False),
    ]
    page = (config.folder / "report" / "index.html").read_text()
    assert all(name in page for name in ("gone.jpg", "back-again.jpg-thumb.webp"))
    for sample in SAMPLES.glob("*.[jJ][pP][gG]"):
        assert sample.name in page


def test_the_demo_runs_again_and_takes_a_folder_of_photos(
    stack: Stack, config: LocalConfig, console: Console, tmp_path: Path
) -> None:
    # given names that are awkward in a terminal, and two photos whose names differ only in their ending
    for name in ("mine [copy].jpg", "odd [red].heic", "mine [copy].heic"):
        shutil.copy(SAMPLES / ("raccoon.jpg" if name.endswith("jpg") else "hopper.heic"), tmp_path / name)
    assert demo.run(config, console, tmp_path) == 0, _said(console)
    assert json.loads((config.folder / "demo.json").read_text())["as_expected"]
    for name in ("mine [copy].jpg", "odd [red].heic", "mine [copy].heic"):
        assert name in _said(console)
    pictures = {path.name for path in (config.folder / "report" / "pictures").iterdir()}
    assert {"mine [copy].jpg-thumb.webp", "mine [copy].heic-thumb.webp"} <= pictures
    # and the page for uploads is served
    assert config.web_url in _said(console)
    assert "Photos to upload" in requests.get(config.web_url, timeout=60).text


@pytest.mark.parametrize(
    ("names", "reason"),
    [([], "no photos"), (["photo.jPG"], "Rename photo.jPG"), (None, "is not a folder")],
    ids=["empty folder", "mixed-case suffix", "no folder"],
)
def test_the_demo_says_what_is_wrong_with_a_folder(
    stack: Stack, config: LocalConfig, console: Console, tmp_path: Path, names: list[str] | None, reason: str
) -> None:
    folder = tmp_path / "missing" if names is None else tmp_path
    for name in names or []:
        (folder / name).touch()
    with pytest.raises(LaptopError, match=reason):
        demo.run(config, console, folder)


@pytest.mark.usefixtures("broker")
def test_chaos_loses_nothing_and_does_nothing_twice(
    stack: Stack, config: LocalConfig, console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    # when all flows run at once while everything is disturbed
    assert chaos.run(config, console, "all", 70, with_mistakes=False) == 0, _said(console)
    # then the faulty ones are among the dead letters, and all others are done
    assert capsys.readouterr().out.splitlines()[-1] == "accepted 70, done 67, dead-lettered 3, lost 0, twice 0"
    told = json.loads((config.folder / "chaos.json").read_text())
    assert {name: flow["accepted"] for name, flow in told["flows"].items()} == {
        "images": 21,
        "orders": 17,
        "rabbitmq": 32,
    }
    # and photos were deleted, undeleted and erased
    images = told["flows"]["images"]["details"]
    assert all(images[change] for change in ("keys deleted", "keys undeleted", "newest versions deleted"))
    assert images["still found by a search"] == 0
    # and things did go wrong
    assert told["disturbed"]["function processes killed"] > 0
    assert told["disturbed"]["broker restarts"] == 2
    assert all(sum(told["failed_calls"][service].values()) > 0 for service in ("s3", "dynamodb", "sqs", "sns"))
    # and Markdown for the documents was written
    assert "| all | 70 | 67 | 3 | 0 | 0 |" in (config.folder / "chaos.md").read_text()


def test_chaos_redrives_only_what_met_transient_faults(stack: Stack, config: LocalConfig, console: Console) -> None:
    # given two dead letters: one of a photo that can be rendered, one of a photo that is gone
    key, bucket = f"{uuid4()}/photo", stack.outputs["UploadsBucketName"]  # S3 sends no event for such a name
    stack.s3.upload_file(str(SAMPLES / "raccoon.jpg"), bucket, key)
    dead_letters = SqsDeadLetters(stack.sqs, stack.outputs["ImageTasksDeadLetterQueueUrl"])
    passing, gone = f"passing-{uuid4()}", f"gone-{uuid4()}"
    dead_letters.send(_task(passing, bucket, key), passing, ServiceUnavailable("S3 was away."))
    dead_letters.send(_task(gone, bucket, "never-uploaded"), gone, ObjectGone("There is no such object."))
    # when
    redriven = chaos.redrive(stack, config, console)
    # then
    assert redriven["ServiceUnavailable"] >= 1  # those that other tests have left, too
    assert "ObjectGone" not in redriven
    assert wait_for(stack, passing)["outcome"] == "Processed"
    letters = {letter.task_id for letter in read_dead_letters(stack, stack.outputs["ImageTasksDeadLetterQueueUrl"])}
    assert letters & {passing, gone} == {gone}


def _task(task_id: str, bucket: str, key: str) -> str:
    return json.dumps({"task_id": task_id, "bucket": bucket, "key": key})


def test_up_repairs_the_stack_after_killed_runs(stack: Stack, config: LocalConfig, console: Console) -> None:
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
    up(config, console, broker=False)
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
