"""The commands of a person on call, against the stack of the suite."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from uuid import uuid4

import pytest
from rich.console import Console

from local.chaos.fault_injection import held_back_messages
from local.config import PROJECT, LocalConfig
from local.outcomes import count_messages, poll, read_dead_letters, take_results
from local.stack import Stack
from operations import status
from operations.dead_letters import DeadLetter
from tests.integration.cloudwatch import CloudWatch
from tests.integration.uploading import SAMPLES, SECONDS, new_key, send, wait_for, wait_for_dead_letter

RESULTS, DEAD_RESULTS = "ResultsQueueUrl", "ResultsDeadLetterQueueUrl"


class Command:
    """`python -m operations` in a process of its own, as `make` starts it."""

    def __init__(self, config: LocalConfig) -> None:
        self.environment = os.environ | {
            "DARKROOM_FOLDER": str(config.folder),
            "PORT": str(config.port),
            "PYTHONPATH": str(PROJECT / "layers" / "common"),
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603 # our own command
            [sys.executable, "-m", "operations", *arguments],
            cwd=PROJECT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=SECONDS)
        return process.returncode, said


@pytest.fixture
def command(stack: Stack, config: LocalConfig) -> Command:
    return Command(config)


def looked_up(stack: Stack, output: str) -> dict[str, DeadLetter]:
    return {letter.text("task_id"): letter for letter in status.sample(stack.sqs, stack.outputs[output], 1000)}


@pytest.mark.usefixtures("broker")  # without it the status is an error
def test_a_dead_letter_is_seen_left_alone_and_done_once_its_cause_is_gone(stack: Stack, command: Command) -> None:
    # given a task for a photo that is not there
    key, task_id = new_key(), f"task-{uuid4().hex}"
    send(stack, {"task_id": task_id, "bucket": stack.outputs["UploadsBucketName"], "key": key})
    wait_for_dead_letter(stack, task_id)
    # then the status shows it with its reason
    CloudWatch(stack).calm()  # last: what is measured late puts an alarm on again that another test has fed
    code, said = command.run("status")
    assert code == 0, said
    assert "images, dead letters" in said
    assert "ObjectGone" in said
    assert "There is no object" in said
    assert "are OK." in " ".join(said.split())
    # and a dry run changes nothing
    before = set(looked_up(stack, "ImageTasksDeadLetterQueueUrl"))
    code, said = command.run("redrive", "--queue", "images", "--code", "ObjectGone", "--dry-run")
    assert (code, "would be moved." in said) == (0, True), said
    assert set(looked_up(stack, "ImageTasksDeadLetterQueueUrl")) >= before
    # when the photo is there, and the dead letters are redriven
    stack.s3.upload_file(str(SAMPLES / "raccoon.jpg"), stack.outputs["UploadsBucketName"], key)
    code, said = command.run("redrive", "--queue", "images", "--code", "ObjectGone")
    assert code == 0, said
    # then the task that was moved to the dead-letter queue is done again
    done = poll(lambda: wait_for(stack, task_id), lambda task: task["outcome"] == "Processed", seconds=SECONDS)
    assert done["outcome"] == "Processed"
    assert task_id not in looked_up(stack, "ImageTasksDeadLetterQueueUrl")


def test_a_dead_letter_goes_on_to_its_queue_once_it_has_a_route_and_what_is_wrong_stays(
    stack: Stack, command: Command
) -> None:
    # given a dead letter whose route was missing, and one that never was an order
    key, task_id, wrong_id = new_key(), f"task-{uuid4().hex}", f"wrong-{uuid4().hex}"
    stack.s3.upload_file(str(SAMPLES / "raccoon.jpg"), stack.outputs["UploadsBucketName"], key)
    body = json.dumps({"bucket": stack.outputs["UploadsBucketName"], "key": key})
    for text, queue, error_code, id_ in (
        (body, "image-tasks::/", "NoRoute", task_id),
        ("rubbish", "orders::/", "MalformedMessage", wrong_id),
    ):
        attributes = {"error_code": error_code, "reason": "why", "task_id": id_, "queue": queue}
        stack.sqs.send_message(
            QueueUrl=stack.outputs["RabbitMqDeadLetterQueueUrl"],
            MessageBody=text,
            MessageAttributes={n: {"DataType": "String", "StringValue": value} for n, value in attributes.items()},
        )
    # when
    code, said = command.run("redrive", "--queue", "rabbitmq")
    # then
    assert code == 0, said
    assert "would come back" in said
    assert wait_for(stack, task_id)["outcome"] == "Processed"
    dead_letters = looked_up(stack, "RabbitMqDeadLetterQueueUrl")
    assert wrong_id in dead_letters
    assert task_id not in dead_letters


@pytest.fixture
def dead_results(stack: Stack) -> Iterator[set[str]]:
    """Forty results that their reader returned too often, and no new ones; the test removes them all."""
    with held_back_messages(stack, stack.outputs["ImageTasksQueueArn"]):
        for queue in (RESULTS, DEAD_RESULTS):  # what is read too often in the first goes to the second
            stack.sqs.purge_queue(QueueUrl=stack.outputs[queue])
        ids = {uuid4().hex for _ in range(40)}
        for id_ in ids:
            stack.sqs.send_message(QueueUrl=stack.outputs[DEAD_RESULTS], MessageBody=json.dumps({"task_id": id_}))
        yield ids
        list(take_results(stack))


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_redrive_that_is_interrupted_midway_loses_nothing(
    stack: Stack, command: Command, dead_results: set[str], number: signal.Signals, exit_code: int
) -> None:

    def moved() -> int:
        """How many of them are results again; other tests may add late ones."""
        results = [json.loads(letter.body) for letter in read_dead_letters(stack, stack.outputs[RESULTS])]
        return sum(result.get("task_id") in dead_results for result in results)

    # given a redrive that has moved the first of them
    process = command.start("redrive", "--queue", "results", "--rate", "5")
    left = poll(lambda: sum(count_messages(stack, stack.outputs[DEAD_RESULTS])), lambda n: n < 40, seconds=SECONDS)
    assert 0 < left < 40
    # when
    process.send_signal(number)
    said, _ = process.communicate(timeout=SECONDS)
    # then every message stands in one of the two queues
    assert process.returncode == exit_code, said
    assert 40 <= moved() + sum(count_messages(stack, stack.outputs[DEAD_RESULTS])) <= 50
    if number == signal.SIGINT:
        assert f"Moved {moved()}, left" in said
        assert count_messages(stack, stack.outputs[DEAD_RESULTS])[1] == 0, "what was looked at shows again at once"
    # and another run, once they show again, moves the rest
    poll(lambda: count_messages(stack, stack.outputs[DEAD_RESULTS])[1], lambda hidden: hidden == 0, seconds=SECONDS)
    code, said = command.run("redrive", "--queue", "results", "--rate", "1000")
    assert code == 0, said
    assert {result.get("task_id") for result in take_results(stack)} >= dead_results
    assert count_messages(stack, stack.outputs[DEAD_RESULTS]) == (0, 0)


def test_the_status_of_a_stack_without_its_payment_provider_is_an_error(stack: Stack) -> None:
    console = Console(file=io.StringIO(), width=80)
    assert (
        status.run(stack, console, lambda: status.Surroundings(["The payment provider does not answer"]), watch=False)
        == 1
    )
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert any("does not answer" in line for line in lines)
    assert max(map(len, lines)) <= 80
