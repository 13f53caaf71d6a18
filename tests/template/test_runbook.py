"""The runbook has a section for each alarm, and names nothing that is not there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from darkroom.errors import DarkroomError, PermanentFault, TransientFault

from operations.flows import FLOWS
from tests.template.template import ROOT, Template, load

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
TEMPLATE = load((ROOT / "template.yaml").read_text())
ERROR_CODES = (ROOT / "docs" / "error-codes.md").read_text()
PARTS = ("Impact.** ", "Look.** ", "Fix.** ", "Redrive.** ", "Can wait if** ")
_COMPOSITE, _QUERY = "AWS::CloudWatch::CompositeAlarm", "AWS::Logs::QueryDefinition"
_OTHER_SECTIONS = {"First", "The alarms"}
_IN_SECONDS = {"ApproximateAgeOfOldestMessage", "NotificationLatency"}


def error_codes() -> set[str]:
    """What dead letters can carry: all classes of errors but the branches of the tree."""

    def below(kind: type[DarkroomError]) -> Iterator[str]:
        for sub in kind.__subclasses__():
            if sub.__module__ == DarkroomError.__module__:  # not what others derive for themselves
                yield sub.__name__
            yield from below(sub)

    return set(below(DarkroomError)) - {PermanentFault.__name__, TransientFault.__name__}


def runbook_faults(runbook: str, template: Template, makefile: str) -> list[str]:
    """What the runbook lacks, and what it names that is not there."""
    sections = {title: text for title, _, text in (part.partition("\n") for part in runbook.split("\n## ")[1:])}
    alarms = {name.removesuffix("Alarm") for name in (*template.alarms, *template.composite_alarms)}
    faults = [f"{name} has no section" for name in alarms - sections.keys()]
    faults += [f"there is no alarm {name}" for name in sections.keys() - alarms - _OTHER_SECTIONS]
    for name in alarms & sections.keys():
        faults += [f"{name} does not say: {part}" for part in PARTS if f"- **{part}" not in sections[name]]
        if f"| [{name}](#{name.lower()}) |" not in sections["The alarms"]:
            faults.append(f"{name} is not in the table")
    limits = dict(re.findall(r"^\| \[(\w+)\].* \| (.*) \| (?:yes )?\|$", sections["The alarms"], re.MULTILINE))
    faults += [
        f"the column More than is wrong for {name}: it is {limit}"
        for name, limit in {
            name.removesuffix("Alarm"): _limit(alarm) for name, alarm in template.alarms.items()
        }.items()
        if limits.get(name) != limit
    ]
    (together,) = template.composite_alarms.values()
    noticed = set(re.findall(r"\$\{(\w+)Alarm\}", str(together["AlarmRule"])))
    waking = set(re.findall(r"^\| \[(\w+)\].* \| yes \|$", sections["The alarms"], re.MULTILINE)) - {"CustomersNotice"}
    faults += [f"the column Wakes is wrong for {name}" for name in noticed ^ waking]
    return faults + _unknown_names(runbook, template, makefile)


def _limit(alarm: Mapping[str, Any]) -> str:
    """What an alarm's metric must exceed, and for how long, in the words of the runbook."""
    assert alarm["ComparisonOperator"] == "GreaterThanThreshold"
    unit = " s" if alarm["MetricName"] in _IN_SECONDS else ""
    above, times = f"{alarm['Threshold']:,}{unit}", int(alarm["EvaluationPeriods"])
    if alarm["Statistic"] == "Sum":
        return f"{above} in {_time(alarm['Period'])}" + (f", {times} times running" if times > 1 else "")
    mean = " on average" if alarm["Statistic"] == "Average" else ""
    return f"{above}{mean} for {_time(alarm['Period'] * times)}"


def _time(seconds: int) -> str:
    return "1 day" if seconds == 86_400 else f"{seconds // 60} min"


def error_code_faults(page: str) -> list[str]:
    """What the page of error codes lacks, and what it explains that does not exist."""
    explained = re.findall(r"^\| `(\w+)` \| .+ \| (?:yes|after a fix|never|-) \| .+ \|$", page, re.MULTILINE)
    faults = [f"{code} is not explained" for code in error_codes() - set(explained)]
    return faults + [f"there is no error code {code}" for code in set(explained) - error_codes()]


def _unknown_names(runbook: str, template: Template, makefile: str) -> list[str]:
    queries = {values["Name"]["Fn::Sub"].partition("/")[2] for values in template.saved_queries.values()}
    dashboard = next(str(values) for values in template.dashboards.values())
    known: list[tuple[str, str, set[str] | str]] = [
        ("make target", r"(?:`|^    |\()make ([a-z-]+)", set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))),
        ("error code", r"CODE=(?!none)(\w+)|code `(\w+)`", error_codes()),
        ("output", r"\$(?!STACK)([A-Z][A-Za-z]+)", set(template["Outputs"])),
        ("saved query", r'(?:[Qq]uery|;|,|and|in)\s+"([^"{}$]+)"', queries),
        ("widget", r"\*((?:Images|Results|Orders|RabbitMQ|API|Functions): [^*]+)\*", dashboard),
        (
            "parameter",
            r"`((?:Max|Process|RabbitMq|Gradual|Payments|Results)\w+)(?:=\w+)?`",
            set(template["Parameters"]),
        ),
        ("anchor", r"\]\(#([a-z-]+)\)", {_anchor(title) for title in re.findall(r"^##+ (.+)$", runbook, re.MULTILINE)}),
        ("dead-letter queue", r"QUEUE=(\w+)", set(FLOWS)),
    ]
    codes_and_functions = error_codes() | set(template["Resources"])
    return [
        f"there is no {kind} {name}"
        for kind, pattern, names in known
        for name in ("".join(found) for found in re.findall(pattern, runbook))
        if name not in names and not (kind == "parameter" and name in codes_and_functions)
    ]


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def test_the_runbook_has_exactly_the_alarms() -> None:
    assert runbook_faults(RUNBOOK, TEMPLATE, MAKEFILE) == []


def test_exactly_the_error_codes_are_explained() -> None:
    assert error_code_faults(ERROR_CODES) == []
    assert error_code_faults(ERROR_CODES.replace("| `TooLarge` |", "| `TooBig` |")) == [
        "TooLarge is not explained",
        "there is no error code TooBig",
    ]


@pytest.mark.parametrize("query", sorted(v["Name"]["Fn::Sub"] for v in TEMPLATE.saved_queries.values()))
def test_the_runbook_names_each_saved_query(query: str) -> None:
    assert f'"{query.partition("/")[2]}"' in RUNBOOK


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda text: text.replace("## PaymentFailures\n", "## ApiSlowness\n"), "PaymentFailures has no section"),
        (lambda text: text.replace("## PaymentFailures\n", "## ApiSlowness\n"), "there is no alarm ApiSlowness"),
        (lambda text: text.replace("**Redrive.**", "**Again.**"), "OrderDeadLetters does not say: Redrive.** "),
        (lambda text: text.replace("| [PaymentFailures]", "| [Latency]"), "PaymentFailures is not in the table"),
        (
            lambda text: text.replace("30 s on average for 10 min | yes |", "30 s on average for 10 min | |"),
            "the column Wakes is wrong for HighNotificationLatency",
        ),
        (
            lambda text: text.replace("| 3 in 5 min |", "| 5 in 5 min |"),
            "the column More than is wrong for PaymentFailures: it is 3 in 5 min",
        ),
        (lambda text: text.replace("CODE=OutOfTime", "CODE=Late"), "there is no error code Late"),
        (lambda text: text.replace("make status", "make state"), "there is no make target state"),
        (lambda text: text.replace("$PaymentSecretArn", "$StripeSecretArn"), "there is no output StripeSecretArn"),
        (lambda text: text.replace('"slowest tasks"', '"slow tasks"'), "there is no saved query slow tasks"),
        (lambda text: text.replace("*Images: queue*", "*Images: line*"), "there is no widget Images: line"),
        (lambda text: text.replace("`MaxImagePixels`", "`MaxPixels`"), "there is no parameter MaxPixels"),
        (lambda text: text.replace("](#paymentfailures)", "](#api-latency)"), "there is no anchor api-latency"),
        (lambda text: text.replace("QUEUE=orders", "QUEUE=order"), "there is no dead-letter queue order"),
    ],
)
def test_a_broken_runbook_is_found(damage: Callable[[str], str], fault: str) -> None:
    assert fault in runbook_faults(damage(RUNBOOK), TEMPLATE, MAKEFILE)
