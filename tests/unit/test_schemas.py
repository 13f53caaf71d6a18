"""The schemas are what the readers and the API use, and what the events in ``events/`` keep to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from darkroom.schema import Schema

from api.description import load
from tests.unit.events import body_of

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


@pytest.mark.parametrize("path", sorted(Path("events").glob("order_*.json")), ids=lambda path: path.stem)
def test_orders_in_events_keep_to_the_schema(path: Path) -> None:
    for record in json.loads(path.read_text())["Records"]:
        faults = Schema("order").faults(json.loads(record["body"]))
        assert bool(faults) == (path.stem == "order_malformed"), faults


def test_the_plain_task_in_events_keeps_to_the_schema() -> None:
    assert Schema("image_task").faults(json.loads(body_of("sqs_plain_task"))) == []
