"""Messages of every kind through the functions' code, with fakes of all services.

Each has an outcome: done, a dead letter with its reason, or left in its queue after a transient fault. There is never
a defect (UnexpectedError), an error from the handler, or a missing log line.
"""

from __future__ import annotations

import io
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from functools import partial
from time import time
from typing import Any

import hypothesis
from aws_lambda_powertools.utilities.batch import AsyncBatchProcessor, EventType, async_process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from darkroom import image_messages, order_messages
from darkroom.batch import Attempt, MessageHandler
from darkroom.dead_letters import SqsDeadLetters
from darkroom.deadline import Deadline
from darkroom.errors import NoRoute, PermanentFault, ServiceUnavailable, TransientFault, UnexpectedError
from darkroom.logs import logger
from darkroom.messages import Unreadable
from darkroom.reporting import metrics
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from functions.process_image import process as images
from functions.process_image import reporting as image_reporting
from functions.process_image.render_messages import (
    ProtocolError,
    RenderDefect,
    read_photo,
    read_renditions,
)
from functions.process_order import process as orders
from functions.process_order import reporting as order_reporting
from functions.relay_rabbitmq import reporting as relay_reporting
from functions.relay_rabbitmq.deliveries import read_event
from functions.relay_rabbitmq.relay import Accepted, Target, Undeliverable, relay
from functions.relay_rabbitmq.sqs import SqsDeadLetterQueue, SqsQueues
from tests.fuzz.cases import Block, Case, Hangs, Report, told, within
from tests.fuzz.odd_messages import ANSWERS, EVENTS, IMAGE_BODIES, MAX_RECEIVES, ORDER_BODIES, Batch, batches
from tests.unit.events import sqs_record
from tests.unit.fakes import LIMITS, TWO_SIZES, Calls, World
from tests.unit.order_fakes import ALBUM, FRAME, PRINT, OrderWorld
from tests.unit.relay_fakes import ROUTES, StrictSqs, event_of, put_together

_SECONDS = 60
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
_LARGEST_EVENT = 6 * 2**20
_WORKERS = ThreadPoolExecutor(4)


class Defect(Exception):
    """The function regards it as its own defect; see the cause."""


def _sqs_batch(
    batch: Batch, read: Callable[[str], Sequence[Any]], process: Callable[..., Any], report: Callable[..., None]
) -> Iterator[str]:
    """Take a batch as the handler does; ``process`` has everything but its dead letters."""
    sqs = StrictSqs(iter(batch.sqs_troubles))
    dead_letters = SqsDeadLetters(sqs.client, "dead letters")
    records = [
        sqs_record(body, receives=batch.receives, redriven=batch.redriven, message_id=f"message-{number}").raw_event
        for number, body in enumerate(batch.bodies)
    ]
    attempts: dict[str, list[Attempt[Any, Any]]] = {record["messageId"]: [] for record in records}
    raised: dict[str, Exception] = {}
    deadline = Deadline(time() + _SECONDS)

    async def take(record: SQSRecord) -> None:
        def told(attempt: Attempt[Any, Any], sent: float, is_last: bool) -> None:
            attempts[record.message_id].append(attempt)
            report(attempt, sent, is_last)

        handler = MessageHandler(
            read=read,
            process=partial(process, dead_letters=dead_letters),
            dead_letters=dead_letters,
            workers=_WORKERS,
            answerers=_WORKERS,
            max_receives=MAX_RECEIVES,
            max_attempts=MAX_RECEIVES,
            set_visibility_timeout=lambda receipt, seconds: None,
            report=told,
        )
        try:
            await handler.take(record, deadline)
        except Exception as error:
            raised[record.message_id] = error
            raise

    processor = AsyncBatchProcessor(EventType.SQS, raise_on_entire_batch_failure=False)
    with _the_log() as lines:
        answer = async_process_partial_response({"Records": records}, take, processor)
    failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
    reported = sum(map(len, attempts.values()))
    assert len([line for line in lines if "task_id" in line or "order_id" in line]) == reported, "a line is missing"
    letters = {(letter.body, letter.attributes["error_code"]) for letter in sqs.queues["dead letters"]}
    assert all(letter.attributes["reason"] for letter in sqs.queues["dead letters"])
    assert failed == raised.keys()
    for record in records:
        of_message = attempts[record["messageId"]]
        for attempt in of_message:
            outcome = attempt.outcome
            if isinstance(outcome, UnexpectedError):
                raise Defect from outcome
            if isinstance(outcome, TransientFault):
                yield f"{outcome.error_code}, later"
            else:
                yield outcome.fault.error_code if outcome.fault else outcome.result.value
        if record["messageId"] in failed:
            error = raised[record["messageId"]]
            assert isinstance(error, TransientFault), error
            if isinstance(error, UnexpectedError):
                raise Defect from error
            continue
        assert len(of_message) == len(read(record["body"])), "a task got lost"
        for attempt in of_message:
            fault = attempt.outcome if isinstance(attempt.outcome, TransientFault) else attempt.outcome.fault
            assert fault is None or (attempt.task.body, fault.error_code) in letters, "a dead letter is missing"


@contextmanager
def _the_log() -> Iterator[list[dict[str, Any]]]:
    """The lines that are logged inside, afterwards; the stream takes UTF-8 alone, as Lambda's does."""
    lines: list[dict[str, Any]] = []
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    handlers = {handler: handler.setStream(stream) for handler in logger.handlers}  # type: ignore[attr-defined]
    metrics.clear_metrics()
    try:
        with redirect_stdout(stream):  # where metrics go
            yield lines
            metrics.flush_metrics()
    finally:
        for handler, before in handlers.items():
            handler.setStream(before)  # type: ignore[attr-defined]
    stream.seek(0)
    lines += [json.loads(line) for line in stream if '"_aws"' not in line]


def _image_batch(batch: Batch) -> Iterator[str]:
    world = World()
    world.upload()
    world.upload("broken.jpg", data=b"\xff\xd8\xff\xe0 nothing else")
    dependencies = world.dependencies(Calls(batch.trouble, batch.at))

    def process(task: Any, deadline: Deadline, *, redriven: bool, dead_letters: Any) -> images.Outcome:
        return images.process(
            task, deadline, dependencies=replace(dependencies, dead_letters=dead_letters), redriven=redriven
        )

    return _sqs_batch(batch, image_messages.read_body, process, image_reporting.report)


def _order_batch(batch: Batch) -> Iterator[str]:
    world = OrderWorld()
    world.stock({PRINT: 10, FRAME: 10, ALBUM: 10})
    dependencies = world.dependencies(Calls(batch.trouble, batch.at))

    def process(task: Any, deadline: Deadline, *, redriven: bool, dead_letters: Any) -> orders.Outcome:
        return orders.process(
            task, deadline, dependencies=replace(dependencies, dead_letters=dead_letters), redriven=redriven
        )

    return _sqs_batch(batch, order_messages.read_body, process, order_reporting.report)


def _direct(body: str) -> Iterator[str]:
    """Somebody invokes the image function with an event of their own."""
    try:
        event = json.loads(body)
        json.dumps(event)
    except (ValueError, RecursionError):  # Lambda's runtime does not get as far as the handler
        yield "no JSON"
        return
    world = World()
    world.upload()
    attempts = images_now(event, world)
    with _the_log() as lines:
        for attempt in attempts:
            image_reporting.report(attempt)
    assert len(lines) == len(attempts), "a line is missing"
    for attempt in attempts:
        if isinstance(attempt.outcome, TransientFault):
            raise Defect from attempt.outcome
        json.dumps(attempt.outcome.summary())
        yield attempt.outcome.result.value if not attempt.outcome.fault else attempt.outcome.fault.error_code


def _rabbitmq_event(event: tuple[Any, list[str]]) -> Iterator[str]:
    queues, troubles = event
    sent = json.dumps(event_of(queues))
    if len(sent) > _LARGEST_EVENT:
        yield "larger than Lambda takes"
        return
    sqs = StrictSqs(iter(troubles))
    targets = SqsQueues(sqs.client, {target: target.value for target in Target})
    seen: list[Accepted | Undeliverable] = []

    def noting(outcomes: Iterator[Accepted | Undeliverable]) -> Iterator[Accepted | Undeliverable]:
        for outcome in outcomes:
            seen.append(outcome)
            yield outcome

    read = read_event(json.loads(sent))
    with _the_log() as lines:
        try:
            relay_reporting.report(noting(relay(read, ROUTES, targets, SqsDeadLetterQueue(sqs.client, "dead-letters"))))
        except (ServiceUnavailable, NoRoute) as fault:
            yield f"{fault.error_code}, later"
            return
    assert len(seen) == sum(map(len, queues.values())), "a message got lost"
    dead_letter_queue = put_together(sqs.queues["dead-letters"])
    assert len(lines) == 1 + sum(isinstance(outcome, Undeliverable) for outcome in seen), "a line is missing"
    for outcome in seen:
        if isinstance(outcome, Accepted):
            assert outcome.body in {message.body for message in sqs.queues[outcome.target.value]}
            reader = image_messages if outcome.target is Target.IMAGE_TASKS else order_messages
            tasks = reader.read_body(outcome.body)
            assert not tasks or not all(isinstance(task, Unreadable) for task in tasks)
            yield f"relayed to {outcome.target}"
        else:
            if isinstance(outcome.fault, UnexpectedError):
                raise Defect from outcome.fault
            assert (outcome.task_id, outcome.fault.error_code, outcome.delivery.data) in dead_letter_queue
            yield outcome.fault.error_code


def _render_answer(answer: tuple[bool, str]) -> Iterator[str]:
    """A process that has decoded a hostile file says something."""
    is_photo, text = answer
    content = text.encode("utf-8", "surrogatepass")
    try:
        if is_photo:
            photo, _, _ = read_photo(content, LIMITS)
            assert photo.width * photo.height * photo.frames <= LIMITS.max_pixels
        else:
            lengths, put = read_renditions(content, TWO_SIZES.specs, 10_000)
            assert sum(lengths) <= 10_000
            put([bytes(length) for length in lengths])
        yield "understood"
    except (PermanentFault, RenderDefect, ProtocolError) as fault:
        yield type(fault).__name__


def images_now(event: Any, world: World) -> list[Attempt[Any, Any]]:
    """What the image function does with an event that is not from SQS."""
    dependencies = world.dependencies()
    handler = MessageHandler(
        read=image_messages.read_body,
        process=partial(images.process, dependencies=dependencies),
        dead_letters=dependencies.dead_letters,
        workers=_WORKERS,
        answerers=_WORKERS,
        max_receives=MAX_RECEIVES,
        max_attempts=MAX_RECEIVES,
        set_visibility_timeout=lambda receipt, seconds: None,
        report=lambda attempt, sent, is_last: None,
    )
    message = handler.message(json.dumps(event))
    message.work(Deadline(time() + _SECONDS))
    return message.attempts()


#: Every entry point: its messages, and the check of their outcome.
KINDS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], Iterator[str]]]] = {
    "image-messages": (batches(IMAGE_BODIES), _image_batch),
    "orders": (batches(ORDER_BODIES), _order_batch),
    "rabbitmq-events": (EVENTS, _rabbitmq_event),
    "direct-invocations": (IMAGE_BODIES, _direct),
    "render-answers": (ANSWERS, _render_answer),
}


def try_messages(block: Block) -> Report:
    """Try a block of one kind; what fails is made as small as it gets."""
    strategy, outcomes_of = KINDS[block.kind]
    outcomes: Counter[str] = Counter()
    tried: list[Any] = [None]
    count = 0

    @hypothesis.seed(block.seed * 1_000_003 + block.number)
    @hypothesis.settings(
        max_examples=block.count,
        database=None,
        deadline=None,
        derandomize=False,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(strategy)
    def try_all(case: Any) -> None:
        nonlocal count
        tried[0] = case
        count += 1
        with within(_SECONDS + 5):
            outcomes.update(list(outcomes_of(case)))

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that what failed is long
            try_all()
    except (Exception, Hangs) as error:  # noqa: BLE001 # that is what is looked for
        finding = Case(f"{block.kind}/{block.number}", told(error), repr(tried[0]).encode("utf-8", "backslashreplace"))
        return Report(count, outcomes, (finding,))
    return Report(count, outcomes)
