"""What the API's schemas refuse the queues' readers refuse too, and what the readers accept the schemas accept."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from darkroom import image_messages, order_messages
from darkroom.messages import Unreadable
from hypothesis import given
from hypothesis import strategies as st

from api.description import load

API = load()
SCHEMAS = API["components"]["schemas"]
ORDER: dict[str, Any] = {
    "order_id": "o-1",
    "customer_id": "c-1",
    "customer_email": "mara@example.com",
    "items": [{"product_id": "p-1", "quantity": 2, "unit_price": "12.50"}],
    "amount": 2500,
    "currency": "EUR",
    "payment_method": "pm_card_visa",
}
TASK: dict[str, Any] = {"task_id": "t-1", "bucket": "darkroom-uploads", "key": "a/photo.jpg", "version_id": "v1"}
_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
}
_NOT_OF_THE_VALUE = {"description", "type"}


def fits(schema: dict[str, Any], value: Any) -> bool:
    """JSON Schema draft 4, as far as the file goes; another keyword is a KeyError."""
    if "$ref" in schema:
        return fits(SCHEMAS[schema["$ref"].rpartition("/")[2]], value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    checks: dict[str, Callable[[Any], bool]] = {
        "required": lambda names: not isinstance(value, dict) or value.keys() >= set(names),
        "properties": lambda of: (
            not isinstance(value, dict) or all(fits(one, value[name]) for name, one in of.items() if name in value)
        ),
        "items": lambda one: not isinstance(value, list) or all(fits(one, item) for item in value),
        "minItems": lambda least: not isinstance(value, list) or len(value) >= least,
        "maxItems": lambda most: not isinstance(value, list) or len(value) <= most,
        "minLength": lambda least: not isinstance(value, str) or len(value) >= least,
        "maxLength": lambda most: not isinstance(value, str) or len(value) <= most,
        "pattern": lambda text: not isinstance(value, str) or re.search(text, value) is not None,
        "minimum": lambda least: not is_number or value >= least,
        "maximum": lambda most: not is_number or value <= most,
        "oneOf": lambda schemas: sum(fits(one, value) for one in schemas) == 1,
    }
    typed = "type" not in schema or _TYPES[schema["type"]](value)
    return typed and all(checks[key](of) for key, of in schema.items() if key not in _NOT_OF_THE_VALUE)


def reads_order(message: Any) -> bool:
    (task,) = order_messages.read_body(json.dumps(message))
    return not isinstance(task, Unreadable)


def reads_task(message: Any) -> bool:
    (task,) = image_messages.read_body(json.dumps(message))
    return not isinstance(task, Unreadable)


def changed(message: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value, or without it."""
    copy = deepcopy(message)
    place: Any = copy
    *steps, last = [int(step) if step.isdecimal() else step for step in path.split("/")]
    for step in steps:
        place = place[step]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    return copy


MISSING = object()
LIMITS: dict[str, list[Any]] = {
    "order_id": ["", "a b", "ü", "x" * 200, "x" * 201, "!~", "a\n"],
    "customer_email": ["a@b", "a@b@c", "@", "a", "x" * 252 + "@y", "x" * 253 + "@y", None, "a@ b"],
    "items": [[], ORDER["items"] * 100, ORDER["items"] * 101, {}, None],
    "items/0": [{}, None, "p-1"],
    "items/0/quantity": [0, 1, 1_000_000, 1_000_001, 1.0, 1.5, "1", True, -1],
    "items/0/unit_price": [0, "0", "12.50", "12.34567", "12.", ".5", "-1", 12.5, -1, True, None, 10**12, 10**12 + 1],
    "amount": [0, 2500, "25", "25.00", "25.0", 25.0, "1" * 13, "1" * 14, 10**12 + 1, [], "25\n"],
    "currency": ["EUR", "JPY", "eur", "EURO", "XXX", "", None, "EU\n"],
    "payment_method": ["", "pm", "p m", 1],
    "task_id": ["", "x" * 200, "x" * 201, "a b", 1, None],
    "bucket": ["ab", "abc", "a" * 63, "a" * 64, "Abc", "-ab", "a.b", "ab-"],
    "key": ["", "k", "k" * 1024, "k" * 1025, "ü" * 512, "ü" * 513, 1, None],
    "version_id": ["", "v", "v" * 1024, "v" * 1025, "v 1", None, 1],
}
ORDER_FIELDS = ["order_id", "customer_id", "customer_email", "items", "items/0", "items/0/product_id"]
ORDER_FIELDS += ["items/0/quantity", "items/0/unit_price", "amount", "currency", "payment_method"]
TASK_FIELDS = ["task_id", "bucket", "key", "version_id"]
OF_ANOTHER = {"customer_id": "order_id", "items/0/product_id": "order_id"}


@pytest.mark.parametrize("field", ORDER_FIELDS)
def test_an_order_at_its_limits(field: str) -> None:
    for value in [MISSING, *LIMITS[OF_ANOTHER.get(field, field)]]:
        message = changed(ORDER, field, value)
        assert fits(SCHEMAS["Order"], message) or not reads_order(message), value


@pytest.mark.parametrize("field", TASK_FIELDS)
def test_an_image_task_at_its_limits(field: str) -> None:
    for value in [MISSING, *LIMITS[field]]:
        message = changed(TASK, field, value)
        assert fits(SCHEMAS["ImageTask"], message) or not reads_task(message), value


ANYTHING = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.just([]))


@given(st.sampled_from(ORDER_FIELDS), ANYTHING)
def test_an_order_with_anything_in_a_field(field: str, value: Any) -> None:
    message = changed(ORDER, field, value)
    assert fits(SCHEMAS["Order"], message) or not reads_order(message)


@given(st.sampled_from(TASK_FIELDS), ANYTHING)
def test_an_image_task_with_anything_in_a_field(field: str, value: Any) -> None:
    message = changed(TASK, field, value)
    assert fits(SCHEMAS["ImageTask"], message) or not reads_task(message)


@pytest.mark.parametrize("message", [ORDER, {**ORDER, "note": "left alone"}, changed(ORDER, "customer_email", None)])
def test_a_good_order_passes_both(message: dict[str, Any]) -> None:
    assert fits(SCHEMAS["Order"], message)
    assert reads_order(message)


@pytest.mark.parametrize("message", [TASK, changed(TASK, "version_id", None), changed(TASK, "version_id", MISSING)])
def test_a_good_image_task_passes_both(message: dict[str, Any]) -> None:
    assert fits(SCHEMAS["ImageTask"], message)
    assert reads_task(message)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[(name, MISSING) for name in SCHEMAS["Order"]["required"]],
        ("order_id", "a b"),
        ("items", []),
        ("items/0/quantity", 0),
        ("items/0/unit_price", 12.5),
        ("amount", -1),
        ("currency", "eur"),
    ],
)
def test_the_edge_refuses_a_bad_order_itself(field: str, value: Any) -> None:
    assert not fits(SCHEMAS["Order"], changed(ORDER, field, value))


def test_the_schemas_know_the_readers_fields() -> None:
    assert SCHEMAS["Order"]["properties"].keys() == order_messages.OrderMessage.model_fields.keys()
    assert SCHEMAS["Item"]["properties"].keys() == order_messages.ItemMessage.model_fields.keys()
