"""What the commands show a person on call, and of which stack."""

from __future__ import annotations

import io
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event
from typing import Any

import pytest
from rich.console import Console

from local.config import PROJECT
from operations import redrive_command, status
from operations.deployed import DeployedStack, in_aws, stack_name_for
from operations.errors import OperationsError
from operations.flows import FLOWS
from operations.redrive_command import RedriveOptions
from tests.console import recording, said
from tests.unit.operations_fakes import FakeQueues

NAMES = {output: output.removesuffix("Url") for flow in FLOWS.values() for output in (flow.waiting, flow.dead_letters)}
OUTPUTS = {**NAMES, "ImageTasksQueueArn": "arn:aws:sqs:eu-central-1:123456789012:images"}
DEAD, LIVE = "ImageTasksDeadLetterQueue", "ImageTasksQueue"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@dataclass
class FakeCloudWatch:
    """Alarms by name: their states, and when they got there."""

    alarms: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    ages: dict[str, list[float]] = field(default_factory=dict)

    def describe_alarms(self, *, AlarmNames: list[str], **_: Any) -> dict[str, Any]:  # noqa: N803
        assert len(AlarmNames) <= 100
        assert AlarmNames, "without names AWS answers with every alarm of the account"
        return {
            "MetricAlarms": [
                {
                    "AlarmName": name,
                    "StateValue": self.alarms[name][0],
                    "StateUpdatedTimestamp": self.alarms[name][1],
                    "StateReason": f"because of {name}",
                }
                for name in AlarmNames
            ],
            "CompositeAlarms": [],
        }

    def get_metric_data(self, *, MetricDataQueries: list[Any], **_: Any) -> dict[str, Any]:  # noqa: N803
        return {
            "MetricDataResults": [
                {
                    "Id": query["Id"],
                    "Values": self.ages.get(query["MetricStat"]["Metric"]["Dimensions"][0]["Value"], []),
                }
                for query in MetricDataQueries
            ]
        }


@dataclass
class FakeCloudFormation:
    """A stack's resources, in one page."""

    resources: list[tuple[str, str, str]]

    def get_paginator(self, _: str) -> FakeCloudFormation:
        return self

    def paginate(self, **_: str) -> Iterator[dict[str, Any]]:
        keys = ("ResourceType", "LogicalResourceId", "PhysicalResourceId")
        yield {"StackResourceSummaries": [dict(zip(keys, resource, strict=True)) for resource in self.resources]}


@dataclass(frozen=True)
class FakeStack(DeployedStack):
    """A stack in memory."""

    clients: dict[str, Any]

    def client(self, service: Any) -> Any:
        return self.clients[service]

    def signing_credentials(self) -> Any:
        raise AssertionError("nothing here is signed")


def stack_of(queues: FakeQueues, cloudwatch: FakeCloudWatch | None = None, *resources: str) -> FakeStack:
    cloudformation = FakeCloudFormation([("AWS::CloudWatch::Alarm", f"{name}Alarm", name) for name in resources])
    clients = {"sqs": queues, "cloudwatch": cloudwatch or FakeCloudWatch(), "cloudformation": cloudformation}
    return FakeStack("darkroom", "eu-central-1", OUTPUTS, clients)


@pytest.fixture
def console() -> Console:
    return recording(80)


class TestTheStatus:
    def test_shows_alarms_of_the_stack_that_are_on_first_and_counts_those_that_are_fine(self, console: Console) -> None:
        alarms = {"Fine": ("OK", NOON), "Mute": ("INSUFFICIENT_DATA", NOON), "Bad": ("ALARM", NOON)}
        cloudwatch = FakeCloudWatch(alarms | {"SomebodyElses": ("ALARM", NOON)})
        status.run(stack_of(FakeQueues(), cloudwatch, *alarms), console, watch=False)
        text = said(console)
        assert text.index("Bad") < text.index("Mute")
        assert "1 of 3 alarms are OK." in text
        assert "SomebodyElses" not in text
        assert "because of Bad" in text
        assert "Fine" not in text

    def test_makes_no_request_for_alarms_if_the_stack_has_none(self, console: Console) -> None:
        assert status.run(stack_of(FakeQueues()), console, watch=False) == 0
        assert "The stack has no alarms." in said(console)

    def test_reads_a_hundred_dead_letters_and_says_so(self, console: Console) -> None:
        queues = FakeQueues()
        for number in range(250):
            queues.put(DEAD, f"{number}", "NotAnImage")
        status.run(stack_of(queues), console, watch=False)
        assert "images, dead letters: of the first 100" in said(console)
        assert queues.calls.count("receive") == 10
        assert len(queues.visible(DEAD)) == 250, "they show again at once"
        assert not {"delete", "send"} & set(queues.calls)

    def test_does_not_receive_from_an_empty_queue(self, console: Console) -> None:
        queues = FakeQueues()
        queues.put(LIVE, "a task")
        status.run(stack_of(queues), console, watch=False)
        assert "receive" not in queues.calls

    def test_reads_dead_letters_again_only_when_their_number_has_changed(self) -> None:
        queues = FakeQueues()
        queues.put(DEAD, "1", "NotAnImage")
        stack = stack_of(queues)
        first = status.observe(stack, {})
        calls = queues.calls.count("receive")
        again = status.observe(stack, {}, first)
        assert (queues.calls.count("receive"), again.letters) == (calls, first.letters)
        queues.put(DEAD, "2", "TooLarge")
        assert len(status.observe(stack, {}, again).letters["images, dead letters"]) == 2

    def test_shows_the_age_from_cloudwatch(self, console: Console) -> None:
        queues = FakeQueues()
        queues.put(LIVE, "a task")
        status.run(stack_of(queues, FakeCloudWatch(ages={LIVE: [3720.0, 60.0]})), console, watch=False)
        assert "1 h 2 min" in said(console)

    def test_fits_into_80_columns_and_shows_reasons_as_plain_text(self, console: Console) -> None:
        queues = FakeQueues()
        queues.put(DEAD, "body", "ObjectGone", reason=f"[red] {'x' * 300}")
        status.run(stack_of(queues), console, watch=False)
        assert "[red]" in said(console)
        assert max(map(len, said(console).splitlines())) <= 80


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (90_000, "1 d 1 h")],
)
def test_an_age_has_two_units(seconds: float, text: str) -> None:
    assert status.age(seconds) == text


class TestARedrive:
    @staticmethod
    def run(
        queues: FakeQueues, console: Console, options: RedriveOptions, *, yes: bool = True, ended: bool = False
    ) -> int:
        event = Event()
        if ended:
            event.set()
        return redrive_command.run(stack_of(queues), options, console, event, lambda _: yes)

    @pytest.fixture
    def queues(self) -> FakeQueues:
        queues = FakeQueues()
        for code in ("NotAnImage", "TooLarge", "NotAnImage"):
            queues.put(DEAD, "body", code)
        return queues

    def test_reports_what_it_moved(self, queues: FakeQueues, console: Console) -> None:
        assert self.run(queues, console, RedriveOptions("images", "NotAnImage", rate=1000)) == 0
        assert "Moved 2, left 1, failed 0." in said(console)
        assert (len(queues.bodies(LIVE)), len(queues.bodies(DEAD))) == (2, 1)

    @pytest.mark.parametrize(
        ("options", "yes", "ended", "exit_code", "says"),
        [
            (RedriveOptions("images", dry_run=True), True, False, 0, "Dry run: 3 messages would be moved."),
            (RedriveOptions("images"), False, False, 0, "Nothing was moved."),
            (RedriveOptions("images"), True, True, 130, "Stopped before anything was moved."),
            (RedriveOptions("images", "ObjectGone"), True, False, 0, "Nothing to move."),
            (RedriveOptions("orders"), True, False, 0, "orders, dead letters is empty."),
        ],
        ids=["dry run", "refused by the person", "ended by the person", "none of this code", "none at all"],
    )
    def test_without_consent_moves_nothing(
        self,
        queues: FakeQueues,
        console: Console,
        options: RedriveOptions,
        yes: bool,
        ended: bool,
        exit_code: int,
        says: str,
    ) -> None:
        assert self.run(queues, console, options, yes=yes, ended=ended) == exit_code
        assert says in said(console)
        assert "send" not in queues.calls
        assert len(queues.visible(DEAD)) == 3

    def test_without_a_network_reports_that_and_what_was_moved(self, console: Console) -> None:
        queues, rehearsal = FakeQueues(), FakeQueues()
        for number in range(30):
            queues.put(DEAD, f"{number}", "TooLarge")
            rehearsal.put(DEAD, f"{number}", "TooLarge")
        self.run(rehearsal, Console(file=io.StringIO()), RedriveOptions("images", rate=1000))
        second_delete = rehearsal.calls.index("delete", rehearsal.calls.index("delete") + 1)
        queues.dies_at, queues.only_network = second_delete, True
        assert self.run(queues, console, RedriveOptions("images", rate=1000)) == 1
        assert "The run stopped" in said(console)
        assert f"Moved {len(queues.bodies(LIVE))}," in said(console)
        assert "10 messages of those moved may still be in the dead-letter queue" in said(console)


class TestAStackInAws:
    def test_is_named_as_in_samconfig(self) -> None:
        samconfig = tomllib.loads((PROJECT / "samconfig.toml").read_text())
        assert stack_name_for("prod", samconfig) == "darkroom"
        assert stack_name_for("my-company", samconfig) == "darkroom-dev"

    def test_needs_a_profile_that_exists(self) -> None:
        with pytest.raises(OperationsError, match="profile nobody-has-this cannot reach AWS"):
            in_aws("nobody-has-this")
