"""docs/api.md names what api/openapi.yaml describes."""

from __future__ import annotations

from itertools import chain

from api.description import OPENAPI, load

PAGE = (OPENAPI.parents[1] / "docs" / "api.md").read_text()
OPERATIONS = {
    (method.upper(), path): operation
    for path, methods in load()["paths"].items()
    for method, operation in methods.items()
    if not method.startswith("x-")
}


def test_the_page_names_every_operation() -> None:
    for method, path in OPERATIONS:
        named = f"`GET {path}`" if method == "DELETE" else f"`{method} {path}`"
        assert named in PAGE


def test_the_page_names_every_parameter_with_its_range() -> None:
    for parameter in chain.from_iterable(operation.get("parameters", ()) for operation in OPERATIONS.values()):
        name, schema = parameter["name"], parameter["schema"]
        limits = f" | {schema['minimum']} to {schema['maximum']}" if schema["type"] == "integer" else ""
        assert f"`{name}`{limits}" in PAGE
        for choice in schema.get("enum", ()):
            assert f"`{choice}`" in PAGE


def test_the_page_explains_every_error_status() -> None:
    statuses = set(chain.from_iterable(operation["responses"] for operation in OPERATIONS.values()))
    explained = {line.split(" | ")[0].removeprefix("| ") for line in PAGE.splitlines() if line.startswith("| 4")}
    assert {status for status in statuses if status.startswith("4")} <= explained
    for status in statuses:
        assert f"| {status} |" in PAGE or f"answer is {status}" in PAGE
