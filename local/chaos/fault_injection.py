"""The faults that chaos injects into the deployed stack, the same for all flows."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import sleep

import psutil

from local.config import LocalConfig
from local.emulators import aws_emulator, payments, rabbitmq
from local.outcomes import poll
from local.stack import TIMEOUT_TAG, Stack

# A killed function's messages become visible after the visibility timeout. The template's 300 s suit production; a run
# that people wait for uses a little more than the function's 50 s.
_VISIBILITY_TIMEOUT = "60"
# About 5 % of all calls. Few hang: the call, and the rest of its batch, then waits for the client's timeout.
_AWS_FAULTS = {
    "500 before": 0.01,
    "500 after": 0.005,
    "503": 0.01,
    "slow": 0.01,
    "dropped before": 0.005,
    "dropped after": 0.01,
    "hangs before": 0.0005,
    "hangs after": 0.0005,
}
_AWS_SERVICES = ("s3", "dynamodb", "sqs", "sns", "secretsmanager")
_REFUSED_ENTRIES = {"refused entries": 0.1}
_AWS_OUTAGE = {"500 before": 0.5, "503": 0.5}
_FAILING_PAYMENT_REQUESTS = 0.1
_LONGEST_WAIT_FOR_A_CALL = 20.0


@contextmanager
def short_visibility(deployed: Stack, queue_url: str) -> Iterator[None]:
    """Shorten the visibility timeout of messages that are received inside the block."""
    sqs = deployed.sqs
    before = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["VisibilityTimeout"])["Attributes"]
    sqs.tag_queue(QueueUrl=queue_url, Tags={TIMEOUT_TAG: before["VisibilityTimeout"]})  # if this run is killed
    sqs.set_queue_attributes(QueueUrl=queue_url, Attributes={"VisibilityTimeout": _VISIBILITY_TIMEOUT})
    try:
        yield
    finally:
        sqs.set_queue_attributes(QueueUrl=queue_url, Attributes=before)
        sqs.untag_queue(QueueUrl=queue_url, TagKeys=[TIMEOUT_TAG])


@contextmanager
def held_back_messages(deployed: Stack, queue_arn: str) -> Iterator[None]:
    """Stop a function from reading its queue inside the block."""
    lambda_ = deployed.lambda_
    (mapping,) = lambda_.list_event_source_mappings(EventSourceArn=queue_arn)["EventSourceMappings"]
    lambda_.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    try:
        yield
    finally:
        lambda_.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)


def kill_functions(config: LocalConfig, name: str = "") -> int:
    """Kill the processes that run functions and wait until they have ended; returns their number.

    Parameters
    ----------
    name:
        Kill only the processes of this function.
    """
    processes = aws_emulator.function_processes(config, name)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
            # The first thread is a zombie while others still end. Until then the emulator takes the process for alive,
            # and a message that it is given is hidden for the whole visibility timeout.
            while process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1:
                sleep(0.01)  # the emulator reaps it
    return len(processes)


@dataclass
class FaultInjector:
    """The faults injected into a stack, and how often."""

    config: LocalConfig
    chance: random.Random
    seconds_of_outage: float
    done: Counter[str] = field(default_factory=Counter)
    failed_calls: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Make a share of all calls to AWS and to the payment provider fail inside the block."""
        self._fail()
        try:
            yield
        finally:
            self._set_faults({}, 0)

    def kill_functions(self) -> None:
        """Kill every function process."""
        self.done["function processes killed"] += kill_functions(self.config)

    def restart_broker(self) -> None:
        """Restart RabbitMQ."""
        rabbitmq.restart(self.config)
        self.done["broker restarts"] += 1

    def restart_payments(self) -> None:
        """Restart the payment provider: requests in progress break off, and new ones fail for a while."""
        self._count_failed_payments()
        payments.restart(self.config)
        self.done["payment provider restarts"] += 1
        self._fail()

    def payments_outage(self) -> None:
        """Make the payment provider answer 500 for a while, and save these answers under their idempotency keys."""
        self._outage("payment provider", lambda: self._set_faults(_aws_faults(), 1, "500 before"))

    def aws_outage(self, service: str) -> None:
        """Make an AWS service answer only 500 and 503 for a while."""
        shares = _aws_faults() | {service: _AWS_OUTAGE}
        self._outage(service, lambda: self._set_faults(shares, _FAILING_PAYMENT_REQUESTS))

    def _outage(self, service: str, start: Callable[[], None]) -> None:
        """Begin an outage and wait for its end, which comes once a call has failed: else it would show nothing."""
        start()
        before = self.failed_calls[service].total()
        sleep(self.seconds_of_outage)

        def has_failed() -> bool:
            start()  # again: its answer counts what has failed since
            return self.failed_calls[service].total() > before

        poll(has_failed, bool, seconds=_LONGEST_WAIT_FOR_A_CALL - self.seconds_of_outage, every=0.1)
        self.done[f"outages of {service}, {self.seconds_of_outage:.0f} s"] += 1
        self._fail()

    def _fail(self) -> None:
        self._set_faults(_aws_faults(), _FAILING_PAYMENT_REQUESTS)

    def _set_faults(self, aws: Mapping[str, Mapping[str, float]], payment_share: float, *payment_kinds: str) -> None:
        seed = self.chance.getrandbits(32)
        for service, kinds in aws_emulator.set_faults(self.config, aws, seed).items():
            self.failed_calls[service].update(kinds)
        self._count_failed_payments()
        payments.set_faults(self.config.payments_url, payment_share, seed, kinds=payment_kinds)

    def _count_failed_payments(self) -> None:
        self.failed_calls["payment provider"].update(payments.fault_counts(self.config.payments_url))


def _aws_faults() -> dict[str, dict[str, float]]:
    faults = {service: dict(_AWS_FAULTS) for service in _AWS_SERVICES}
    faults["sqs"] |= _REFUSED_ENTRIES
    return faults
