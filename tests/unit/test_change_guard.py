"""The guard of RabbitMQ's mappings: its code, as the template holds it, against the events of CloudFormation."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.template.template import ROOT, load

Answer = tuple[str, str, str | None]
Ask = Callable[..., Answer]
BEFORE, RENAMED = ["image-tasks", "orders", "/"], ["photos", "orders", "/"]


@pytest.fixture(scope="module")
def code() -> str:
    template = load((ROOT / "template.yaml").read_text())
    text: str = template["Resources"]["RabbitMqChangeGuardFunction"]["Properties"]["Code"]["ZipFile"]
    return text


@pytest.fixture
def ask(code: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Asks the guard; returns status, physical id and reason of its answer."""
    answers: list[Answer] = []
    # Lambda adds this module to inline code.
    # https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cfn-lambda-function-code-cfnresponsemodule.html
    answering: Any = ModuleType("cfnresponse")
    answering.SUCCESS, answering.FAILED = "SUCCESS", "FAILED"
    answering.send = lambda event, context, status, data, id_, reason=None: answers.append((status, id_, reason))
    monkeypatch.setitem(sys.modules, "cfnresponse", answering)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 # our own template's

    def asked(kind: str, mapping: list[str], *, reads: str = "true", id_: str | None = None) -> Answer:
        event: dict[str, Any] = {"RequestType": kind, "ResourceProperties": {"Reads": reads, "Mapping": mapping}}
        names["handler"](event | ({"PhysicalResourceId": id_} if id_ else {}), None)
        return answers.pop()

    yield asked
    assert answers == []


def test_a_rename_while_the_queues_are_read_is_refused_and_rolled_back(ask: Ask) -> None:
    status, accepted, _ = ask("Create", BEFORE)
    assert status == "SUCCESS"
    # when
    status, kept, reason = ask("Update", RENAMED, id_=accepted)
    # then
    assert (status, kept) == ("FAILED", accepted)
    assert "Deploy with RabbitMqReads=false first" in str(reason)
    # and CloudFormation's rollback asks for the setup before
    assert ask("Update", BEFORE, id_=kept) == ("SUCCESS", accepted, None)


def test_a_rename_passes_once_nothing_is_read_and_so_does_its_rollback(ask: Ask) -> None:
    _, read, _ = ask("Create", BEFORE)
    status, unread, _ = ask("Update", BEFORE, reads="false", id_=read)
    assert (status, unread != read) == ("SUCCESS", True)
    # when
    status, renamed, _ = ask("Update", RENAMED, id_=unread)
    # then
    assert status == "SUCCESS"
    assert ask("Update", BEFORE, reads="false", id_=renamed) == ("SUCCESS", unread, None)


def test_the_end_of_a_setup_passes(ask: Ask) -> None:
    _, accepted, _ = ask("Create", BEFORE)
    assert ask("Delete", BEFORE, id_=accepted) == ("SUCCESS", accepted, None)


def test_an_update_of_the_same_setup_passes(ask: Ask) -> None:
    _, accepted, _ = ask("Create", BEFORE)
    assert ask("Update", BEFORE, id_=accepted) == ("SUCCESS", accepted, None)
