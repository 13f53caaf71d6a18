"""`make chaos`: inject the faults that production has, then audit that nothing was lost or done twice."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from time import monotonic, sleep, time
from typing import Any

from darkroom.errors import InProgressElsewhere, OutOfTime, PaymentsUnavailable, ServiceUnavailable
from darkroom.messages import Task
from rich.console import Console
from rich.progress import Progress

from local import stack
from local.chaos import images as chaos_images
from local.chaos import mistakes
from local.chaos import orders as chaos_orders
from local.chaos import rabbitmq as chaos_rabbitmq
from local.chaos import report as chaos_report
from local.chaos.fault_injection import FaultInjector, short_visibility
from local.chaos.flow import PORTIONS, PreparedFlow, Seen
from local.config import LocalConfig
from local.emulators import payments, rabbitmq
from local.order_events import listening
from local.outcomes import DeadLetter, count_messages, poll, read_dead_letters, take_results
from local.stack import Stack
from operations.flows import FLOWS
from operations.redrive import NO_CODE, Judge, Moved, Pace, Redrive, back_to

_PREPARE: dict[str, Callable[[Stack, str, int, random.Random], PreparedFlow]] = {
    "images": chaos_images.prepare,
    "orders": chaos_orders.prepare,
    "rabbitmq": chaos_rabbitmq.prepare,
}
_SHARES_OF_ALL = {"images": 0.3, "orders": 0.25, "rabbitmq": 0.45}
CHOICES = ("all", *_PREPARE)
# The next portion is sent when at most this many are unfinished, so that the flows keep pace with one another.
_PORTIONS_UNDER_WAY = 3
_ITEMS_PER_KILL = 50
_MOST_KILLS = 20
_ITEMS_PER_SECOND_OF_OUTAGE = 50
_LONGEST_OUTAGE = 15.0
_QUEUES: dict[str, tuple[str, Callable[[str], Sequence[Task]]]] = {
    flow.dead_letters: (flow.waiting, flow.read_body) for flow in FLOWS.values() if flow.read_body
}
_SECONDS_BETWEEN_LINES = 30  # where there is no terminal
# Faults that pass by themselves: a message that met one too often succeeds after a redrive.
_TRANSIENT = {fault.__name__ for fault in (ServiceUnavailable, PaymentsUnavailable, OutOfTime, InProgressElsewhere)}
_REDRIVEN = {*_TRANSIENT, *mistakes.CODES, NO_CODE}
_REDRIVEN_A_SECOND = 100
# Longer than the poller may hold a batch that fails again and again: the broker does not count it as waiting.
_SECONDS_OF_SILENCE = 90
_ROUNDS_OF_REDRIVING = 3


def run(config: LocalConfig, console: Console, flow: str, items: int, *, with_mistakes: bool = True) -> int:
    """Inject faults into one flow, or all at once, and print the audit; returns 0 only if the sums are right.

    Parameters
    ----------
    with_mistakes:
        Whether an operator also makes mistakes that hold orders back.

    Raises
    ------
    LaptopError
        The stack does not start.
    """
    deployed = stack.up(config, console)
    started = time()
    chance = random.Random(items)  # noqa: S311 # the same faults in every run, so that a failure can be reproduced
    faults = FaultInjector(config, chance, min(items / _ITEMS_PER_SECOND_OF_OUTAGE, _LONGEST_OUTAGE))
    name_of_run = f"chaos-{started:.0f}"
    operator = mistakes.Operator(config, deployed, name_of_run, faults.done) if with_mistakes else None
    counts = _split(flow, items)
    for _ in take_results(deployed):
        pass  # drops the messages of earlier runs
    with ExitStack() as until_the_end:
        for queue, _ in _QUEUES.values():
            until_the_end.enter_context(short_visibility(deployed, deployed.outputs[queue]))
        listener = until_the_end.enter_context(listening(deployed))
        with console.status("Uploading photos and writing messages ..."):
            flows = [_PREPARE[name](deployed, name_of_run, count, chance) for name, count in counts.items()]
        with faults.failing():
            _run_through(deployed, config, flows, _plan(faults, operator, counts, chance), console)
        redriven = redrive(deployed, config, console)
        seen = _see(deployed, flows, listener.listen)
    audits = {each.name: each.audit(seen) for each in flows}
    disturbed = dict(sorted(faults.done.items()))
    disturbed |= {f"dead letters with error code {code}, redriven at the end": n for code, n in redriven.items()}
    failed = {name: dict(kinds) for name, kinds in sorted(faults.failed_calls.items())}
    return chaos_report.show(config, console, audits, disturbed, failed, round(time() - started))


def _split(flow: str, items: int) -> dict[str, int]:
    """The number of items of each flow, at least one."""
    if flow != "all":
        return {flow: items}
    counts = {name: max(1, int(items * share)) for name, share in _SHARES_OF_ALL.items()}
    return counts | {"rabbitmq": max(1, items - counts["images"] - counts["orders"])}


def _plan(
    faults: FaultInjector, operator: mistakes.Operator | None, counts: Mapping[str, int], chance: random.Random
) -> list[tuple[float, Callable[[], None]]]:
    """The faults to inject into these flows, and after which share of the items."""
    outage = faults.aws_outage
    plan: list[tuple[float, Callable[[], None], set[str]]] = [
        (0.15, faults.restart_broker, {"rabbitmq"}),
        (0.2, partial(outage, "dynamodb"), {"images", "orders", "rabbitmq"}),
        (0.3, faults.restart_payments, {"orders", "rabbitmq"}),
        (0.4, partial(outage, "sqs"), {"images", "orders", "rabbitmq"}),
        (0.5, partial(outage, "s3"), {"images", "rabbitmq"}),
        (0.6, faults.restart_broker, {"rabbitmq"}),
        (0.65, partial(outage, "sns"), {"orders", "rabbitmq"}),
        (0.7, faults.payments_outage, {"orders", "rabbitmq"}),
    ]
    if operator:
        plan += [
            (0.0, operator.lose_products, {"orders", "rabbitmq"}),
            (0.25, operator.replace_the_key, {"orders", "rabbitmq"}),
        ]
    kills = min(sum(counts.values()) // _ITEMS_PER_KILL, _MOST_KILLS)
    plan += [(chance.uniform(0.05, 0.9), faults.kill_functions, set(counts)) for _ in range(kills)]
    return sorted(
        ((share, disturb) for share, disturb, flows in plan if flows & counts.keys()), key=lambda entry: entry[0]
    )


def _run_through(
    deployed: Stack,
    config: LocalConfig,
    flows: Sequence[PreparedFlow],
    plan: Sequence[tuple[float, Callable[[], None]]],
    console: Console,
) -> None:
    """Send all portions while faults are injected, until everything is done or nothing progresses."""
    expected = sum(flow.expected for flow in flows)
    offered, to_come = 0, list(plan)
    under_way: list[Future[Any]] = []
    with (
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
        ThreadPoolExecutor(1) as disturber,
        ThreadPoolExecutor(len(flows)) as producers,
    ):
        bars = {flow.name: progress.add_task(flow.name, total=flow.expected) for flow in flows}

        next_line = monotonic() + _SECONDS_BETWEEN_LINES

        def count_done() -> int:
            nonlocal next_line
            counts = {flow.name: flow.count_done() for flow in flows}
            for name, count in counts.items():
                progress.update(bars[name], completed=count)
            if not console.is_terminal and monotonic() >= next_line:
                console.print(", ".join(f"{flow.name}: {counts[flow.name]} of {flow.expected}" for flow in flows))
                next_line = monotonic() + _SECONDS_BETWEEN_LINES
            return sum(counts.values())

        while offered < PORTIONS or not all(future.done() for future in under_way):
            done = count_done()
            if offered < PORTIONS and done >= expected * (offered - _PORTIONS_UNDER_WAY) / PORTIONS:
                under_way += [producers.submit(flow.portions[offered]) for flow in flows]
                offered += 1
            while to_come and done >= to_come[0][0] * expected:
                under_way.append(disturber.submit(to_come.pop(0)[1]))
            sleep(_tick(expected))
        for future in under_way:
            future.result()
        _wait_for_silence(deployed, config, lambda: count_done() == expected)


def _tick(expected: int) -> float:
    """Seconds between two checks, which themselves cost the emulator time."""
    return min(max(0.2, expected / 2000), 3)


def _wait_for_silence(deployed: Stack, config: LocalConfig, is_done: Callable[[], bool]) -> None:
    """Wait until the queues are empty and everything is done, or nothing progresses for a while."""
    empty_since = monotonic()
    while True:
        waiting = sum(sum(count_messages(deployed, deployed.outputs[queue])) for queue, _ in _QUEUES.values())
        if deployed.rabbitmq_url:
            waiting += sum(rabbitmq.queue_depths(config).values())
        if waiting:
            empty_since = monotonic()
        elif is_done() or monotonic() > empty_since + _SECONDS_OF_SILENCE:
            return
        sleep(1)


def redrive(deployed: Stack, config: LocalConfig, console: Console) -> Counter[str]:
    """Redrive messages that met a fault which is over, with the `redrive` command.

    Returns the number of messages by error code; `none` for those that SQS moved because the function died.
    """
    redriven: Counter[str] = Counter()
    pace = Pace(_REDRIVEN_A_SECOND, monotonic, sleep)
    for _ in range(_ROUNDS_OF_REDRIVING):
        before = redriven.total()
        for dead_letters, (queue, _) in _QUEUES.items():
            command = Redrive(deployed.sqs, deployed.outputs[dead_letters], _if_over(back_to(deployed.outputs[queue])))
            plan = command.plan()
            command.move(plan, pace, Moved())
            redriven.update({code or NO_CODE: group.go for code, group in plan.groups.items()})
        if redriven.total() == before:
            break
        with console.status(f"{redriven.total() - before} messages were redriven ..."):
            _wait_for_silence(deployed, config, lambda: True)
    return +redriven


def _if_over(judge: Judge) -> Judge:
    """Move a dead letter only if its fault is over."""
    return lambda letter: judge(letter) if (letter.error_code or NO_CODE) in _REDRIVEN else "It would fail again."


def _see(deployed: Stack, flows: Sequence[PreparedFlow], listen: Callable[[], Iterable[Mapping[str, Any]]]) -> Seen:
    """Read the final state, once all expected dead letters have arrived."""

    def read_letters() -> dict[str, list[DeadLetter]]:
        return {name: _named(name, read_dead_letters(deployed, deployed.outputs[name])) for name in outputs}

    def complete(letters: Mapping[str, Sequence[DeadLetter]]) -> bool:
        return all(
            ids <= {letter.task_id for letter in letters[name]} for flow in flows for name, ids in flow.faulty.items()
        )

    outputs = (*_QUEUES, chaos_rabbitmq.DEAD_LETTERS)
    return Seen(
        letters=poll(read_letters, complete, seconds=30, every=2),
        results=list(take_results(deployed)),
        events=list(listen()),
        payments=payments.succeeded_payments(deployed.payments_url),
    )


def _named(dead_letters: str, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    """Dead letters that SQS moved itself, with the task id from their bodies."""
    if dead_letters not in _QUEUES:
        return list(letters)
    read = _QUEUES[dead_letters][1]
    return [letter if letter.task_id else replace(letter, task_id=read(letter.body)[0].task_id) for letter in letters]
