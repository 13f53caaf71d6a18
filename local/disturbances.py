"""What chaos does to the deployed stack, whichever flow it runs through."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic, sleep

import psutil
from darkroom.sending import send_all
from rich.console import Console
from rich.progress import Progress

from local import emulator
from local.machine import Place
from local.outcomes import count_messages
from local.stack import Stack

# A killed function's messages come back after the visibility timeout. The template's 300 s are right for production;
# for a run that people wait for, a little more than the function's 50 s must do.
_VISIBILITY_TIMEOUT = "60"


@contextmanager
def short_visibility(deployed: Stack, queue_url: str) -> Iterator[None]:
    """Let a killed function's messages come back soon; it holds for messages received inside the block."""
    sqs = deployed.sqs
    before = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["VisibilityTimeout"])["Attributes"]
    sqs.set_queue_attributes(QueueUrl=queue_url, Attributes={"VisibilityTimeout": _VISIBILITY_TIMEOUT})
    try:
        yield
    finally:
        sqs.set_queue_attributes(QueueUrl=queue_url, Attributes=before)


@contextmanager
def held_back_messages(deployed: Stack, queue_arn: str) -> Iterator[None]:
    """Keep a queue's messages from its function inside the block."""
    lambda_ = deployed.lambda_
    (mapping,) = lambda_.list_event_source_mappings(EventSourceArn=queue_arn)["EventSourceMappings"]
    lambda_.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    try:
        yield
    finally:
        lambda_.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)


def send_twice_in_any_order(deployed: Stack, queue_url: str, bodies: Sequence[str], chance: random.Random) -> int:
    """Put each message on its queue twice, shuffled; returns how many that are."""
    twice = [*bodies, *bodies]
    chance.shuffle(twice)
    return send_all(deployed.sqs, queue_url, twice)


def wait_while_disturbing(
    deployed: Stack,
    queue_url: str,
    count_done: Callable[[], int],
    expected: int,
    disturbances: Sequence[tuple[float, Callable[[], object]]],
    *,
    doing: str,
    console: Console,
) -> None:
    """Wait until all is done and the queue is empty, or for some minutes and a second for each item.

    Parameters
    ----------
    count_done:
        How many of the ``expected`` items are done by now.
    disturbances:
        What else happens, and when which share of the items is done.
    doing:
        What the progress bar says.
    """
    to_come = sorted(disturbances, key=lambda disturbance: disturbance[0])
    end = monotonic() + 240 + expected
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(doing, total=expected)
        while monotonic() < end:
            done = count_done()
            progress.update(bar, completed=done)
            if to_come and done >= int(to_come[0][0] * expected):
                to_come.pop(0)[1]()
            if done == expected and sum(count_messages(deployed, queue_url)) == 0:
                return
            sleep(max(0.2, expected / 1000))  # asking takes the emulator a while, too


def kill_functions(place: Place) -> int:
    """Kill the processes that run functions and wait until they are dead; returns how many that were."""
    processes = emulator.function_processes(place)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
            while process.status() != psutil.STATUS_ZOMBIE:  # it is the emulator's to bury
                sleep(0.01)
    return len(processes)
