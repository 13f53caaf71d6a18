"""The schemas are what the readers and the API use, and what the events in ``events/`` keep to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from darkroom.envelopes import open_body
from darkroom.image_messages import read_body
from darkroom.messages import Unreadable
from darkroom.schema import Schema

from api.description import load
from functions.relay_rabbitmq.deliveries import read_event
from tests.unit.events import body_of, load_event

_NAMES = {"item": "Item", "money": "Money"}


def as_api_gateway_knows_it(schema: Any) -> Any:
    """API Gateway's models have no list of types, and each definition is a model of its own."""
    if isinstance(schema, list):
        return [as_api_gateway_knows_it(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {"$ref": f"#/components/schemas/{_NAMES[schema['$ref'].rpartition('/')[2]]}"}
    kept = {name: value for name, value in schema.items() if name not in ("$schema", "title", "definitions")}
    return {
        name: as_api_gateway_knows_it(value)
        for name, value in kept.items()
        if not (name == "type" and isinstance(value, list))
    }


def test_the_api_checks_bodies_by_the_schemas() -> None:
    order, task = Schema("order").definition, Schema("image_task").definition
    expected = {"Order": order, "ImageTask": task} | {_NAMES[name]: of for name, of in order["definitions"].items()}
    models = load()["components"]["schemas"]
    for name, schema in expected.items():
        assert models[name] == as_api_gateway_knows_it(schema), json.dumps(as_api_gateway_knows_it(schema))


_EVENTS = {path.stem: json.loads(path.read_text()) for path in sorted(Path("events").glob("*.json"))}
_MESSAGES = ("order", "image_task", "s3_notification", "s3_eventbridge_event")


_MIXED = [{"s3_notification"}, {"image_task"}, set(), {"s3_notification"}, {"s3_notification", "sns_envelope"}]


def kinds(body: str) -> set[str]:
    """The schemas that the message in a body keeps to, and the one of its envelope."""
    message, inside = json.loads(body), open_body(body).message
    found = {name for name in _MESSAGES if not Schema(name).faults(inside)}
    return found | {name for name in ("sns_envelope", "eventbridge_envelope") if not Schema(name).faults(message)}


@pytest.mark.parametrize("name", [name for name in _EVENTS if not name.startswith("rabbitmq_") and name != "s3"])
def test_each_message_in_events_keeps_to_the_schema_of_its_kind(name: str) -> None:
    expected = {
        "sqs_eventbridge": {"s3_eventbridge_event"},
        "sqs_plain_task": {"image_task"},
        "sqs_sns": {"sns_envelope", "s3_notification"},
        "sqs_malformed": set(),
        "order_malformed": set(),
    }.get(name, {"order" if name.startswith("order_") else "s3_notification"})
    found = [kinds(record["body"]) for record in _EVENTS[name]["Records"]]
    assert found == (_MIXED if name == "sqs_mixed_batch" else [expected] * len(found))


def test_an_event_of_s3_itself_keeps_to_the_schema() -> None:
    assert Schema("s3_notification").faults(_EVENTS["s3"]) == []


@pytest.mark.parametrize("name", [name for name in _EVENTS if name.startswith("rabbitmq_")])
def test_the_events_of_rabbitmq_keep_to_the_schema(name: str) -> None:
    assert Schema("rabbitmq_event").faults(_EVENTS[name]) == []


def _changed(value: Any) -> Iterator[tuple[str, Any]]:
    """Copies of a message in each of which one field is missing or is a number."""
    match value:
        case dict():
            for name, inner in value.items():
                yield f"without {name}", {n: v for n, v in value.items() if n != name}
                yield f"{name} = 7", value | {name: 7}
                yield from ((f"{name}: {what}", value | {name: other}) for what, other in _changed(inner))
        case [one]:
            yield from ((what, [other]) for what, other in _changed(one))


def _deletion_by_a_lifecycle_rule() -> dict[str, Any]:
    """It may have neither version nor sequencer."""
    event = load_event("s3")
    event["Records"][0]["eventName"] = "LifecycleExpiration:Delete"
    del event["Records"][0]["s3"]["object"]["sequencer"]
    return event


_TO_CHANGE = {
    "s3_notification": _EVENTS["s3"],
    "s3_notification of a deletion": _deletion_by_a_lifecycle_rule(),
    "s3_eventbridge_event": json.loads(body_of("sqs_eventbridge")),
    "image_task": json.loads(body_of("sqs_plain_task")),
}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param(name, message, id=f"{name} {what}")
        for name, original in _TO_CHANGE.items()
        for what, message in _changed(original)
    ],
)
def test_what_the_schema_refuses_the_reader_refuses_and_nothing_else(name: str, message: dict[str, Any]) -> None:
    (task,) = read_body(json.dumps(message))
    assert isinstance(task, Unreadable) == bool(Schema(name.split()[0]).faults(message)), name


@pytest.mark.parametrize(
    "envelope",
    [
        {"Type": "Notification", "Message": "{}"},
        {"detail-type": "OrderPlaced", "source": "shop", "detail": {}},
        {"detail-type": "OrderPlaced", "source": "shop", "detail": "{}"},
    ],
    ids=["SNS", "EventBridge", "EventBridge, text"],
)
def test_what_is_no_envelope_by_the_schemas_is_not_opened(envelope: dict[str, Any]) -> None:
    schema = Schema("sns_envelope" if "Type" in envelope else "eventbridge_envelope")
    assert open_body(json.dumps(envelope)).message == {}
    for what, changed in _changed(envelope):
        if schema.faults(changed):
            assert open_body(json.dumps(changed)).message == changed, what


@pytest.mark.parametrize("field", ["eventSource", "rmqMessagesByQueue"])
def test_an_event_of_rabbitmq_without_its_fields_is_refused(field: str) -> None:
    for event in ({n: v for n, v in _EVENTS["rabbitmq_orders"].items() if n != field}, {field: 7}):
        assert Schema("rabbitmq_event").faults(event)
        with pytest.raises(ValueError, match="not from RabbitMQ"):
            list(read_event(event))
