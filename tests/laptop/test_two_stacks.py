"""A second stack in the account of the first, with photos only: neither sees the other's photos, metrics or alarms."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import time

import pytest
from rich.console import Console

from local import sam
from local.config import LocalConfig
from local.stack import Stack
from operations import parameters
from operations.errors import OperationsError
from tests.integration.cloudwatch import CloudWatch, Datum
from tests.integration.uploading import SMALL, image, new_key, upload, wait_for, wait_for_log

NAME = "darkroom-second"
PHOTOS_ONLY = "Orders=false HttpApi=false RabbitMqIntake=false Delivery=false CreateDashboard=false"
BROKER = "arn:aws:mq:eu-central-1:000000000000:broker:rabbit:b-1234abcd"
SECRET = "arn:aws:secretsmanager:eu-central-1:000000000000:secret:broker-AbCdEf"


@pytest.fixture(scope="module")
def second(stack: Stack, config: LocalConfig) -> Iterator[Stack]:
    names = ["--stack-name", NAME]
    sam.run(
        config, ["deploy", *sam.DEPLOYED_AS_BUILT, *names, f"--parameter-overrides={PHOTOS_ONLY}"], log="sam-second.log"
    )
    (description,) = stack.cloudformation.describe_stacks(StackName=NAME)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in description["Outputs"]}
    yield replace(stack, stack_name=NAME, outputs=outputs)
    sam.run(config, ["delete", *names, "--no-prompts"], log="sam-second.log")


def test_each_stack_has_photos_metrics_and_alarms_of_its_own(stack: Stack, second: Stack) -> None:
    # given
    began, slow = time(), list[Datum]()
    for one in (stack, second):
        CloudWatch(one).calm()
        # when a photo of each is rendered
        key = new_key()
        _, task_id = upload(one, key, SMALL)
        wait_for(one, task_id)
        assert image(one, key)["state"] == "READY"
        # then its metrics are those that the alarms of its own stack look at
        wait_for_log(one, [task_id])
        watched = CloudWatch(one)
        alarm = watched.alarm(watched.physical("HighNotificationLatencyAlarm"))
        data = list(watched.from_log(one.outputs["ProcessImageFunctionName"], began))
        slow += [replace(datum, values=[31.0]) for datum in data if datum.metric == alarm.metric]
        assert {datum.metric.namespace for datum in data} == {f"ImageProcessing/{one.stack_name}"}
    # when the second is slow
    watched = CloudWatch(second)
    watched.feed(watched.alarm(watched.physical("HighNotificationLatencyAlarm")), slow)
    # then only its own alarm goes off
    states = {
        one.stack_name: CloudWatch(one).state(CloudWatch(one).physical("HighNotificationLatencyAlarm"))
        for one in (stack, second)
    }
    assert states == {stack.stack_name: "OK", NAME: "ALARM"}


@dataclass(frozen=True)
class Parameters:
    """`make set` on the second stack, and what the stack has."""

    stack: Stack

    def set(self, *assignments: str) -> None:
        assert parameters.run(self.stack, assignments, Console(file=io.StringIO()), lambda _: True, {}) == 0

    def __getitem__(self, name: str) -> str:
        (description,) = self.stack.cloudformation.describe_stacks(StackName=NAME)["Stacks"]
        return {p["ParameterKey"]: p["ParameterValue"] for p in description["Parameters"]}[name]


@pytest.fixture
def of_second(second: Stack, monkeypatch: pytest.MonkeyPatch) -> Parameters:
    monkeypatch.setattr(parameters, "_POLL_SECONDS", 0.5)
    return Parameters(second)


def test_a_parameter_is_set_and_all_others_stay(second: Stack, of_second: Parameters) -> None:
    of_second.set("ProcessImageMemory=1024")
    function = second.lambda_.get_function_configuration(FunctionName=second.outputs["ProcessImageFunctionName"])
    assert function["MemorySize"] == 1024
    assert (of_second["Orders"], of_second["HttpApi"]) == ("false", "false")


def test_the_queues_of_a_broker_cannot_change_while_they_are_read(of_second: Parameters) -> None:
    # given
    of_second.set("RabbitMqIntake=true", f"RabbitMqBrokerArn={BROKER}", f"RabbitMqSecretArn={SECRET}")
    # when a queue is renamed, then the update fails and is rolled back
    with pytest.raises(OperationsError, match="Deploy with RabbitMqReads=false first"):
        of_second.set("RabbitMqImageTasksQueueName=photos")
    assert of_second["RabbitMqImageTasksQueueName"] == "image-tasks"
    # when nothing is read meanwhile, then it can be
    for assignment in ("RabbitMqReads=false", "RabbitMqImageTasksQueueName=photos", "RabbitMqReads=true"):
        of_second.set(assignment)
    assert of_second["RabbitMqImageTasksQueueName"] == "photos"
