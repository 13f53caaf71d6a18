"""`python -m api.page`: writes docs/api.md from openapi.yaml, so that the page says what API Gateway was made from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

OPENAPI = Path(__file__).with_name("openapi.yaml")
PAGE = OPENAPI.parents[1] / "docs" / "api.md"
_METHODS = ("get", "post", "delete")


def page_of(description: Mapping[str, Any]) -> str:
    """The page, as Markdown, of an OpenAPI 3 description."""
    return "\n".join(_lines(description)).rstrip() + "\n"


def _lines(description: Mapping[str, Any]) -> Iterator[str]:
    schemas = description["components"]["schemas"]
    yield "<!-- Made from api/openapi.yaml by `make api-page`. Do not edit. -->"
    yield "# Queues over HTTP"
    yield ""
    yield description["info"]["description"].strip()
    for path, operations in description["paths"].items():
        for method in _METHODS:
            if method in operations:
                yield from _operation(f"{method.upper()} {path}", operations[method], schemas)
    yield from (
        "",
        "## Errors",
        "",
        "Every error is JSON of this shape; `allowed` is there where something else is.",
        "",
    )
    yield from _fields(schemas["Error"]["properties"]["error"], schemas)
    yield from (
        "",
        "```json",
        '{"error": {"code": "METHOD_NOT_ALLOWED", "message": "...", "allowed": "GET, DELETE"}}',
        "```",
    )


def _operation(title: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", f"## {title}", "", f"{operation['summary']}. {operation.get('description', '')}".strip(), "")
    if parameters := operation.get("parameters"):
        yield from ("| Parameter | | What it is |", "|---|---|---|")
        for parameter in parameters:
            needed = "required" if parameter.get("required") else ""
            told = ": ".join(filter(None, (parameter["description"], _range(parameter["schema"]))))
            yield f"| `{parameter['name']}` | {needed} | {told} |"
        yield ""
    if body := operation.get("requestBody"):
        yield from _fields(body["content"]["application/json"]["schema"], schemas)
        yield ""
    yield from ("| Answer | |", "|---|---|")
    for status, response in sorted(operation["responses"].items()):
        yield f"| {status} | {response['description']} |"


def _fields(schema: Mapping[str, Any], schemas: Mapping[str, Any], within: str = "") -> Iterator[str]:
    schema = _resolved(schema, schemas)
    if not within:
        yield from ("| Field | | What it is |", "|---|---|---|")
    for name, field in schema["properties"].items():
        field = _resolved(field, schemas)
        needed = "required" if name in schema.get("required", []) else ""
        told = ": ".join(filter(None, (field.get("description", ""), _range(field))))
        yield f"| `{within}{name}` | {needed} | {told} |"
        if field.get("type") == "array":
            yield from _fields(field["items"], schemas, within=f"{name}[].")


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    return schemas[reference.rpartition("/")[2]] if reference else schema


def _range(schema: Mapping[str, Any]) -> str:
    """What a value may be, in a few words."""
    match schema:
        case {"enum": choices}:
            return ", ".join(f"`{choice}`" for choice in choices)
        case {"type": "integer", **limits}:
            return f"{limits.get('minimum', '')} to {limits.get('maximum', '')}"
        case {"type": "array", **limits}:
            return f"{limits.get('minItems', 0)} to {limits['maxItems']} items"
        case {"pattern": pattern}:
            return f"text like `{pattern}`".replace("|", "\\|")
        case {"type": "string", **limits} if "maxLength" in limits:
            return f"{limits.get('minLength', 0)} to {limits['maxLength']} characters"
    return ""


def load() -> dict[str, Any]:
    """The description; CloudFormation's functions in it are plain mappings."""
    description: dict[str, Any] = yaml.safe_load(OPENAPI.read_text())
    json.dumps(description)  # nothing in it that JSON does not know
    return description


if __name__ == "__main__":
    PAGE.write_text(page_of(load()))
