"""The API's OpenAPI description, for the tests that hold code and documentation to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

OPENAPI = Path(__file__).with_name("openapi.yaml")


def load() -> dict[str, Any]:
    """Read the description; CloudFormation's functions in it are plain mappings."""
    description: dict[str, Any] = yaml.load(OPENAPI.read_text(), yaml.CSafeLoader)
    json.dumps(description)  # nothing in it that JSON does not know
    # As in a stack that leaves no flow out: what a path's `Fn::If` has for a true condition.
    paths = {path: methods.get("Fn::If", [None, methods])[1] for path, methods in description["paths"].items()}
    return description | {"paths": paths}
