"""Each alarm of the template fires at the fault that it is about, and tells the subscribers of AlarmTopic.

The faults are made for real, and what they make measurable is fed to CloudWatch as AWS would publish it
(``cloudwatch.py`` says how time is compressed). What is not as on AWS:

| Alarm | Real here | Not real here |
|---|---|---|
| ...QueueAge | messages that nobody takes | a second counts as an hour |
| HighNotificationLatency | the event, and what the function measures | the event says that the upload was an hour ago |
| ...Retried | a service of AWS that fails, and what the function counts | that it lasts |
| ImageTasksStuck | the claims that a dead delivery leaves, and what the function counts | that one died |
| ApiServerErrors | a role that may not send, and what callers are answered | that API Gateway counts it |
| RabbitMqBacklog | a message that nobody takes, on a real broker | it counts as 6000, and the test makes the alarm |

https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-metrics-and-dimensions.html
https://docs.aws.amazon.com/amazon-mq/latest/developer-guide/rabbitmq-metrics.html
"""

from __future__ import annotations

from collections.abc import Iterator
from time import time
from uuid import uuid4

import pytest

from local.config import LocalConfig
from local.emulators import mq_poller
from local.emulators.rabbitmq import BrokerMessage, publish, queue_depths
from local.order_events import Listener, listening
from local.outcomes import poll
from local.stack import Stack
from tests.integration.alarm_faults import FAULTS, THOUSANDS, Scene, broken_message
from tests.integration.cloudwatch import CloudWatch, Datum, Metric
from tests.integration.uploading import SECONDS, wait_for_dead_letter
from tests.template.template import ROOT, load, target

TEMPLATE = load((ROOT / "template.yaml").read_text())
OF_THE_BROKER, OF_ALL = "RabbitMqBacklogAlarm", "CustomersNoticeAlarm"
# Seconds each, so not for all.
SEEN_TO_END = (
    "ImageTasksDeadLettersAlarm",
    "PaymentFailuresAlarm",
    "ProcessOrderDefectsAlarm",
)


@pytest.fixture(scope="module")
def cloudwatch(stack: Stack) -> CloudWatch:
    return CloudWatch(stack)


@pytest.fixture(scope="module")
def pager(stack: Stack) -> Iterator[Listener]:
    """A subscriber of the alarms."""
    with listening(stack, "AlarmTopicArn") as listener:
        yield listener


def told(pager: Listener, name: str, since: int) -> list[str]:
    """The states of an alarm that the pager received after the first ``since`` notifications, the oldest first."""
    return [heard["NewStateValue"] for heard in pager.listen()[since:] if heard["AlarmName"] == name]


@pytest.mark.parametrize("logical_id", [name for name, fault in FAULTS.items() if fault is not broken_message])
def test_the_alarm_fires_at_its_fault_and_notifies(
    stack: Stack, config: LocalConfig, cloudwatch: CloudWatch, pager: Listener, logical_id: str
) -> None:
    _fires(
        Scene(stack, config, cloudwatch, cloudwatch.alarm(cloudwatch.physical(logical_id)), time()), pager, logical_id
    )


def _fires(scene: Scene, pager: Listener, logical_id: str) -> None:
    cloudwatch, name = scene.cloudwatch, scene.alarm.name
    # when
    data = FAULTS[logical_id](scene)
    cloudwatch.calm()
    before = len(pager.listen())
    cloudwatch.feed(scene.alarm, data)
    # then
    assert cloudwatch.state(name) == "ALARM"
    assert told(pager, name, before) == ["ALARM"]
    # and it is over when the fault is
    if logical_id in SEEN_TO_END:
        poll(cloudwatch.look_again, lambda _: cloudwatch.state(name) == "OK", seconds=SECONDS, every=1)
        assert told(pager, name, before) == ["ALARM", "OK"]


def test_every_alarm_of_the_template_is_tested(cloudwatch: CloudWatch) -> None:
    deployed = {*TEMPLATE.alarms} - {OF_THE_BROKER}
    assert set(FAULTS) == deployed
    for logical_id in (*deployed, OF_ALL):
        assert cloudwatch.physical(logical_id)


@pytest.mark.usefixtures("broker")
class TestOnABroker:
    def test_the_alarm_of_dead_letters_fires(
        self, stack: Stack, config: LocalConfig, cloudwatch: CloudWatch, pager: Listener
    ) -> None:
        (logical_id,) = (name for name, fault in FAULTS.items() if fault is broken_message)
        alarm = cloudwatch.alarm(cloudwatch.physical(logical_id))
        _fires(Scene(stack, config, cloudwatch, alarm, time()), pager, logical_id)

    def test_the_alarm_of_the_backlog_fires_when_nobody_takes_the_messages(
        self, stack: Stack, config: LocalConfig, cloudwatch: CloudWatch, pager: Listener
    ) -> None:
        # given the alarm as the template has it, for a broker that is not in it
        name, broker = (
            f"{OF_THE_BROKER}-{uuid4().hex}",
            Metric("AWS/AmazonMQ", "MessageReadyCount", frozenset({("Broker", "darkroom-mq")})),
        )
        values = TEMPLATE.alarms[OF_THE_BROKER]
        assert [target(action) for action in values["AlarmActions"]] == ["AlarmTopic"]
        actions = [stack.outputs["AlarmTopicArn"]]
        alarm = {**values, "AlarmActions": actions, "OKActions": actions, "Dimensions": broker.listed_dimensions}
        cloudwatch.client.put_metric_alarm(AlarmName=name, **alarm)
        # when
        message_id = uuid4().hex
        mq_poller.stop(config)
        try:
            publish(config.rabbitmq_url, "orders", [BrokerMessage(b"no order", message_id)])
            waiting = poll(lambda: queue_depths(config)["orders"], lambda count: count > 0, seconds=SECONDS)
            before = len(pager.listen())
            cloudwatch.feed(cloudwatch.alarm(name), [Datum(broker, [waiting * THOUSANDS], "Count")])
            # then
            assert told(pager, name, before) == ["ALARM"]
        finally:
            mq_poller.start(config, stack.outputs["RelayRabbitMqFunctionName"], stack.region)
            cloudwatch.client.delete_alarms(AlarmNames=[name])
        wait_for_dead_letter(stack, message_id, "RabbitMqDeadLetterQueueUrl")  # or it comes in another test


class TestCustomersNotice:
    @pytest.mark.parametrize(
        ("logical_id", "state"),
        [
            ("OrderDeadLettersAlarm", "ALARM"),
            ("ApiServerErrorsAlarm", "ALARM"),
            ("ImageTasksDeadLettersAlarm", "OK"),
            ("ProcessImageErrorsAlarm", "OK"),
        ],
    )
    def test_is_one_alarm_of_some(self, cloudwatch: CloudWatch, pager: Listener, logical_id: str, state: str) -> None:
        # given
        together, alarm = cloudwatch.physical(OF_ALL), cloudwatch.alarm(cloudwatch.physical(logical_id))
        poll(cloudwatch.look_again, lambda _: cloudwatch.state(together) == "OK", seconds=SECONDS, every=1)
        before = len(pager.listen())
        # when
        cloudwatch.feed(alarm, [Datum(alarm.metric, [9.0], "Count")])
        # then
        assert cloudwatch.state(alarm.name) == "ALARM"
        assert cloudwatch.state(together) == state
        assert told(pager, together, before) == (["ALARM"] if state == "ALARM" else [])
