"""Messages of every kind, valid and damaged, drawn by hypothesis."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from darkroom.errors import PermanentFault
from hypothesis import strategies as st

from functions.process_image.photo import Photo
from functions.process_image.render_messages import (
    LENGTH,
    fault_answer,
    photo_answer,
)
from functions.relay_rabbitmq.deliveries import is_sendable
from tests.template.template import ROOT, load
from tests.unit.events import body_of
from tests.unit.fakes import Trouble, plain_task, upload_event
from tests.unit.order_fakes import ALBUM, DECLINED_CARD, FRAME, PRINT, order_message
from tests.unit.relay_fakes import IMAGE_TASKS, ORDERS, event_message

MAX_RECEIVES = 5
_LARGEST_BODY = load((ROOT / "template.yaml").read_text()).queues["ImageTasksQueue"]["MaximumMessageSize"]

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
    """Nested brackets, deeper than the recursion limit."""

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
    """A message as JSON, with up to three values changed, missing or duplicated."""
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
    """A damaged message: cut short, with a duplicate name, nested, or very long."""
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
    """At most as large as the queue accepts, and only with characters that SQS accepts."""
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
IMAGE_BODIES = st.builds(_wrapped, _damaged(_IMAGE_MESSAGES), st.sampled_from([0, 0, 0, 1, 1, 2, 8]))
ORDER_BODIES = _damaged(_ORDER_MESSAGES)


@dataclass(frozen=True)
class Batch:
    """Messages that a queue delivers, and what goes wrong meanwhile."""

    bodies: list[str]
    receives: int
    redriven: bool
    trouble: Trouble | None
    at: int
    sqs_troubles: list[str]


def batches(bodies: st.SearchStrategy[str]) -> st.SearchStrategy[Batch]:
    return st.builds(
        Batch,
        st.lists(bodies.map(_as_sqs_takes_it), min_size=1, max_size=3),
        st.integers(1, MAX_RECEIVES),
        st.booleans(),
        st.sampled_from([None, None, Trouble.REFUSED, Trouble.ANSWER_LOST]),
        st.integers(1, 12),
        st.just([]) | st.lists(st.sampled_from(["", "", "refused", "answer lost"]), max_size=3),
    )


_BOMB = gzip.compress(bytes(3_000_000))


@st.composite
def _deliveries(draw: st.DrawFn) -> Any:
    body = draw(IMAGE_BODIES | ORDER_BODIES).encode("utf-8", "surrogatepass")
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


EVENTS = st.tuples(
    st.dictionaries(
        st.sampled_from([IMAGE_TASKS, ORDERS] * 4 + ["other::/", "", "\ud800", "x" * 2000]),
        st.lists(_deliveries(), max_size=4),
        min_size=1,
        max_size=2,
    ),
    st.just([]) | st.lists(st.sampled_from(["", "", "refused", "answer lost"]), max_size=6),
)

ANSWERS = st.tuples(
    st.booleans(),
    _damaged(
        [
            json.loads(photo_answer(Photo("jpeg", 8, 6, location=(48.1, 11.6)), 1000, 0.5)[LENGTH.size :]),
            json.loads(fault_answer(PermanentFault("a reason"))[LENGTH.size :]),
            {"fault": "NotAnImage", "reason": "a reason"},
            {"defect": "a traceback"},
            {"renditions": [[8, 6, 1, 100], [4, 3, 1, 50]], "placeholder": "abc", "dominant_colour": "#aabbcc"},
        ]
    ),
)
