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


def wait_and_kill(
    deployed: Stack,
    place: Place,
    queue_url: str,
    count_done: Callable[[], int],
    items: int,
    *,
    kill_at: Sequence[float],
    doing: str,
    console: Console,
) -> tuple[int, int]:
    """Wait until all is done and the queue is empty, killing the functions' processes on the way.

    Parameters
    ----------
    count_done:
        How many of ``items`` are done by now.
    kill_at:
        The functions are killed when these shares of the work are done.
    doing:
        What the progress bar says.

    Returns
    -------
    tuple
        How many processes were killed, and how many items were unfinished at the end.
    """
    still_to_kill_at = sorted(int(share * items) for share in kill_at)
    kills = done = 0
    end = monotonic() + 240 + items
    with _short_visibility(deployed, queue_url), Progress(console=console, transient=True) as progress:
        bar = progress.add_task(doing, total=items)
        while monotonic() < end:
            done = count_done()
            progress.update(bar, completed=done, description=f"{doing}, {kills} killed")
            if still_to_kill_at and done >= still_to_kill_at[0]:
                still_to_kill_at.pop(0)
                kills += kill_functions(place)
            if done == items and sum(count_messages(deployed, queue_url)) == 0:
                break
            sleep(max(0.2, items / 1000))  # asking takes the emulator a while, too
    return kills, items - done


@contextmanager
def _short_visibility(deployed: Stack, queue_url: str) -> Iterator[None]:
    sqs = deployed.sqs
    before = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["VisibilityTimeout"])["Attributes"]
    sqs.set_queue_attributes(QueueUrl=queue_url, Attributes={"VisibilityTimeout": _VISIBILITY_TIMEOUT})
    try:
        yield
    finally:
        sqs.set_queue_attributes(QueueUrl=queue_url, Attributes=before)


def kill_functions(place: Place) -> int:
    """Kill the processes that run functions and wait until they are dead; returns how many that were."""
    processes = emulator.function_processes(place)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
            while process.status() != psutil.STATUS_ZOMBIE:  # it is the emulator's to bury
                sleep(0.01)
    return len(processes)
