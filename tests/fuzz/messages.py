"""Messages of every kind, through the functions' own code, with the outside in memory.

Each is answered for: done, set aside with its reason, or left in its queue for a fault that may pass. Never a defect of
ours (UnexpectedError), never an error out of the handler, never a line missing from the log.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
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
from darkroom.errors import PermanentFault, ServiceUnavailable, TransientFault, UnexpectedError
from darkroom.messages import Unreadable
from darkroom.reporting import logger, metrics
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from functions.process_image import process as images
from functions.process_image import reporting as image_reporting
from functions.process_image.photo import Photo
from functions.process_image.render_messages import (
    LENGTH,
    Nonsense,
    RenderDefect,
    fault_answer,
    photo_answer,
    read_photo,
    read_renditions,
)
from functions.process_order import process as orders
from functions.process_order import reporting as order_reporting
from functions.relay_rabbitmq import reporting as relay_reporting
from functions.relay_rabbitmq.deliveries import is_sendable, read_event
from functions.relay_rabbitmq.relay import Accepted, Rejected, Target, relay
from functions.relay_rabbitmq.sqs import SqsQueues, SqsRejects
from tests.fuzz.cases import Block, Case, Hangs, Report, told, within
from tests.template.template import QUEUE, ROOT, load, properties
from tests.unit.events import body_of, sqs_record
from tests.unit.fakes import LIMITS, TWO_SIZES, Calls, Trouble, World, plain_task, upload_event
from tests.unit.order_fakes import ALBUM, DECLINED_CARD, FRAME, PRINT, OrderWorld, order_message
from tests.unit.relay_fakes import IMAGE_TASKS, ORDERS, ROUTES, StrictSqs, event_message, event_of, put_together

_SECONDS = 60
_MAX_RECEIVES = 5
_LARGEST_BODY = properties(load((ROOT / "template.yaml").read_text()), QUEUE)["ImageTasksQueue"]["MaximumMessageSize"]
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
_LARGEST_EVENT = 6 * 2**20
_WORKERS = ThreadPoolExecutor(4)


# What is sent

_ODD_TEXTS = st.sampled_from(
    [
        "",
        " ",
        "\x00",
        "�",
        "a�b",
        "\ufffe",
        "\x7f\x85\u2028",
        "9" * 5000,
        "ä" * 600,
        "%",
        "%ff%00",
        "+",
        "x" * 1025,
        "null",
        "../../a.jpg",
        "NaN",
        "1e400",
        "-0",
        "2026-13-45T99:99:99Z",
        "0001-01-01T00:00:00+23:59",
        "𝟙𝟚",
        "١٢",
    ]
)
_ODD_NUMBERS = st.sampled_from(
    [
        0,
        -1,
        2**31,
        2**63,
        2**64,
        -(2**63) - 1,
        10**12,
        10**12 + 1,
        10**400,
        1e308,
        0.1,
        -0.0,
        float("inf"),
        float("-inf"),
        float("nan"),
    ]
)
_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | _ODD_NUMBERS | st.text(max_size=20) | _ODD_TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | _ODD_TEXTS, inner, max_size=3),
    max_leaves=8,
)


@dataclass(frozen=True)
class _Nested:
    """Brackets in brackets, deeper than some recursion takes."""

    depth: int
    opening: str

    def __str__(self) -> str:
        closing = "]" if self.opening == "[" else "}"
        return self.opening * self.depth + ("" if closing == "]" else "0") + closing * self.depth


_NESTED = st.builds(_Nested, st.sampled_from([100, 480, 900, 970, 990, 100_000]), st.sampled_from(["[", '{"a":']))


def _places(message: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a message."""
    yield place
    match message:
        case dict():
            for name, value in message.items():
                yield from _places(value, (*place, name))
        case list():
            for number, value in enumerate(message):
                yield from _places(value, (*place, number))


def _changed(message: Any, place: tuple[Any, ...], change: Callable[[Any, Any], None], value: Any) -> Any:
    """The message with ``change(container, name)`` made at a place, if it is still there."""
    if not place:
        return value
    container = message
    for name in place[:-1]:
        try:
            container = container[name]
        except (LookupError, TypeError):
            return message
    if isinstance(container, dict | list):
        try:
            change(container, place[-1])
        except (LookupError, TypeError):
            return message
    return message


@st.composite
def _damaged(draw: st.DrawFn, originals: Sequence[Any]) -> str:
    """A message as JSON, in which up to three values are others, missing or there twice."""
    message = json.loads(json.dumps(draw(st.sampled_from(originals))))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from(list(_places(message))))
        value = draw(_JSON)

        def put(container: Any, name: Any, value: Any = value) -> None:
            container[name] = value

        def remove(container: Any, name: Any) -> None:
            del container[name]

        def wrap(container: Any, name: Any) -> None:
            container[name] = [container[name]]

        def add(container: Any, name: Any, value: Any = value) -> None:
            container.append(value) if isinstance(container, list) else container.update({str(value)[:50]: value})

        message = _changed(message, place, draw(st.sampled_from([put, put, remove, wrap, add])), value)
    text = json.dumps(message, ensure_ascii=draw(st.booleans()))
    return _as_text(draw, text)


def _as_text(draw: st.DrawFn, text: str) -> str:
    """The text of a message as nobody would write it: cut short, with a name twice, nested, or very long."""
    match draw(st.integers(0, 24)):
        case 0:
            return text[: draw(st.integers(0, len(text)))]
        case 1:
            names = re.findall(r'"\w+": ', text) or ['"a": ']
            return text.replace("{", f"{{{draw(st.sampled_from(names))}{json.dumps(draw(_JSON))}, ", 1)
        case 2:
            value = draw(st.sampled_from(re.findall(r'"[^"]*"(?!:)', text) or ['"a"']))
            return text.replace(value, str(draw(_NESTED)), 1)
        case 3:
            value = draw(st.sampled_from(re.findall(r": [^,{}\[\]]+", text) or [": 1"]))
            return text.replace(value, f": {'9' * draw(st.sampled_from([20, 400, 4301]))}", 1)
        case 4:
            room = draw(st.sampled_from([2**18, 10**6, 2**20])) - len(text.encode("utf-8", "replace"))
            filling = draw(st.sampled_from([" ", "x", "ä", '{"a":', "[0]", '"'])) * max(room, 0)
            return draw(st.sampled_from([text + filling, filling + text, text.replace('": "', f'": "{filling}', 1)]))
        case 5:
            return "\ufeff" + text
        case 6:
            return str(draw(_NESTED))
        case 7:
            return draw(st.text(max_size=100))
    return text


def _wrapped(text: str, times: int) -> str:
    for _ in range(times):
        text = json.dumps({"Type": "Notification", "Message": text})
    return text


def _as_sqs_takes_it(text: str) -> str:
    """At most as large as the queue takes, of no other characters than SQS does."""
    sendable = text if is_sendable(text) else "".join(c if is_sendable(c) else "?" for c in text)
    return sendable.encode()[:_LARGEST_BODY].decode("utf-8", "ignore") or " "


_IMAGE_MESSAGES = [
    json.loads(upload_event()),
    json.loads(upload_event("gone.jpg")),
    json.loads(plain_task()),
    json.loads(plain_task("a.jpg", bucket="somebody-elses")),
    json.loads(plain_task("broken.jpg", "task-2")),
    *(json.loads(body_of(f"sqs_{name}")) for name in ("s3_several_records", "eventbridge", "test_event", "malformed")),
]
_ORDER_MESSAGES = [
    order_message(),
    order_message("order-2", [(PRINT, 2), (FRAME, 1), (PRINT, 1)]),
    order_message("order-3", [(ALBUM, 500)]),
    order_message("order-4", card=DECLINED_CARD),
    order_message() | {"amount": "12.50", "currency": "JPY"},
    order_message("order-1", [(FRAME, 1)]),
]
_IMAGE_BODIES = st.builds(_wrapped, _damaged(_IMAGE_MESSAGES), st.sampled_from([0, 0, 0, 1, 1, 2, 8]))
_ORDER_BODIES = _damaged(_ORDER_MESSAGES)


@dataclass(frozen=True)
class _Batch:
    """Messages that a queue hands over, and what goes wrong meanwhile."""

    bodies: list[str]
    receives: int
    redriven: bool
    trouble: Trouble | None
    at: int
    sqs_troubles: list[str]


def _batches(bodies: st.SearchStrategy[str]) -> st.SearchStrategy[_Batch]:
    return st.builds(
        _Batch,
        st.lists(bodies.map(_as_sqs_takes_it), min_size=1, max_size=3),
        st.integers(1, _MAX_RECEIVES),
        st.booleans(),
        st.sampled_from([None, None, Trouble.REFUSED, Trouble.ANSWER_LOST]),
        st.integers(1, 12),
        st.just([]) | st.lists(st.sampled_from(["", "", "refused", "answer lost"]), max_size=3),
    )


_BOMB = gzip.compress(bytes(3_000_000))


@st.composite
def _deliveries(draw: st.DrawFn) -> Any:
    body = draw(_IMAGE_BODIES | _ORDER_BODIES).encode("utf-8", "surrogatepass")
    encoding = draw(st.sampled_from([None, None, "", "gzip", "gzip", "x-gzip", "GZIP", "identity", "br"]))
    match draw(st.integers(0, 9)):
        case 0:
            body = draw(st.binary(max_size=60))
        case 1:
            body = _BOMB
        case 2 | 3 | 4:
            body = gzip.compress(body, 1)
        case 5:
            body = gzip.compress(body, 1)[: draw(st.integers(0, 60))]
    message = event_message(
        body, contentEncoding=encoding, messageId=draw(_ODD_TEXTS | st.just("m-1") | st.none()), headers=draw(_JSON)
    )
    if draw(st.integers(0, 5)) == 0:
        place = draw(st.sampled_from(list(_places(message))))
        value = draw(_JSON)

        def put(container: Any, name: Any) -> None:
            container[name] = value

        message = _changed(message, place, put, value)
    return message


_EVENTS = st.tuples(
    st.dictionaries(
        st.sampled_from([IMAGE_TASKS, ORDERS] * 4 + ["other::/", "", "\ud800", "x" * 2000]),
        st.lists(_deliveries(), max_size=4),
        min_size=1,
        max_size=2,
    ),
    st.just([]) | st.lists(st.sampled_from(["", "", "refused", "answer lost"]), max_size=6),
)

_ANSWERS = st.tuples(
    st.booleans(),
    _damaged(
        [
            json.loads(photo_answer(Photo("jpeg", 8, 6, location=(48.1, 11.6)), 1000)[LENGTH.size :]),
            json.loads(fault_answer(PermanentFault("a reason"))[LENGTH.size :]),
            {"fault": "NotAnImage", "reason": "a reason"},
            {"defect": "a traceback"},
            {"renditions": [[8, 6, 1, 100], [4, 3, 1, 50]], "placeholder": "abc", "dominant_colour": "#aabbcc"},
        ]
    ),
)


# What becomes of it


class Defect(Exception):
    """The function takes it for a defect of its own; the cause tells which."""


def _sqs_batch(
    batch: _Batch, read: Callable[[str], Sequence[Any]], process: Callable[..., Any], report: Callable[..., None]
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
            max_receives=_MAX_RECEIVES,
            show_again_in=lambda receipt, seconds: None,
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


def _image_batch(batch: _Batch) -> Iterator[str]:
    world = World()
    world.upload()
    world.upload("broken.jpg", data=b"\xff\xd8\xff\xe0 nothing else")
    flow = world.flow(Calls(batch.trouble, batch.at))

    def process(task: Any, deadline: Deadline, *, redriven: bool, dead_letters: Any) -> images.Outcome:
        return images.process(task, deadline, flow=replace(flow, dead_letters=dead_letters), redriven=redriven)

    return _sqs_batch(batch, image_messages.read_body, process, image_reporting.report)


def _order_batch(batch: _Batch) -> Iterator[str]:
    world = OrderWorld()
    world.stock({PRINT: 10, FRAME: 10, ALBUM: 10})
    flow = world.flow(Calls(batch.trouble, batch.at))

    def process(task: Any, deadline: Deadline, *, redriven: bool, dead_letters: Any) -> orders.Outcome:
        return orders.process(task, deadline, flow=replace(flow, dead_letters=dead_letters), redriven=redriven)

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
    seen: list[Accepted | Rejected] = []

    def noting(outcomes: Iterator[Accepted | Rejected]) -> Iterator[Accepted | Rejected]:
        for outcome in outcomes:
            seen.append(outcome)
            yield outcome

    read = read_event(json.loads(sent))
    with _the_log() as lines:
        try:
            relay_reporting.report(noting(relay(read, ROUTES, targets, SqsRejects(sqs.client, "rejects"))))
        except ServiceUnavailable:
            yield "ServiceUnavailable, later"
            return
    assert len(seen) == sum(map(len, queues.values())), "a message got lost"
    rejects = put_together(sqs.queues["rejects"])
    assert len(lines) == 1 + sum(isinstance(outcome, Rejected) for outcome in seen), "a line is missing"
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
            assert (outcome.task_id, outcome.fault.error_code, outcome.delivery.data) in rejects
            yield outcome.fault.error_code


def _render_answer(answer: tuple[bool, str]) -> Iterator[str]:
    """A process that has decoded a hostile file says something."""
    is_photo, text = answer
    content = text.encode("utf-8", "surrogatepass")
    try:
        if is_photo:
            photo, _ = read_photo(content, LIMITS)
            assert photo.width * photo.height * photo.frames <= LIMITS.max_pixels
        else:
            lengths, put = read_renditions(content, TWO_SIZES, 10_000)
            assert sum(lengths) <= 10_000
            put([bytes(length) for length in lengths])
        yield "understood"
    except (PermanentFault, RenderDefect, Nonsense) as fault:
        yield type(fault).__name__


def images_now(event: Any, world: World) -> list[Attempt[Any, Any]]:
    """What the image function does with an event that is not from SQS."""
    flow = world.flow()
    handler = MessageHandler(
        read=image_messages.read_body,
        process=partial(images.process, flow=flow),
        dead_letters=flow.dead_letters,
        workers=_WORKERS,
        answerers=_WORKERS,
        max_receives=_MAX_RECEIVES,
        show_again_in=lambda receipt, seconds: None,
        report=lambda attempt, sent, is_last: None,
    )
    message = handler.message(json.dumps(event))
    message.work(Deadline(time() + _SECONDS))
    return message.attempts()


#: Every way in: what comes, and what must become of it.
KINDS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], Iterator[str]]]] = {
    "image-messages": (_batches(_IMAGE_BODIES), _image_batch),
    "orders": (_batches(_ORDER_BODIES), _order_batch),
    "rabbitmq-events": (_EVENTS, _rabbitmq_event),
    "direct-invocations": (_IMAGE_BODIES, _direct),
    "render-answers": (_ANSWERS, _render_answer),
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
