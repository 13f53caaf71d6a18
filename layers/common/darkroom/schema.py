"""Check messages by the JSON Schemas in ``schemas/``, and say what each bad field must be."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Schema:
    """One of the schemas, by the name of its file without ``.json``."""

    name: str

    @cached_property
    def definition(self) -> dict[str, Any]:
        """The schema itself."""
        definition: dict[str, Any] = json.loads(files("schemas").joinpath(f"{self.name}.json").read_text("utf-8"))
        return definition

    @cached_property
    def _validate(self) -> Any:
        import fastjsonschema  # an event of S3 starts the function without it

        return fastjsonschema.compile(self.definition, use_default=False, use_formats=False, fast_fail=False)

    def faults(self, message: Any) -> list[str]:
        """What is wrong with a message, one text per field: "items.0.quantity: must be a whole number ..."."""
        try:
            self._validate(message)
        except ValueError as found:
            errors = found.errors  # type: ignore[attr-defined] # a JsonSchemaValuesException
            return list(dict.fromkeys(fault for error in errors for fault in _faults(error)))
        return []


def _faults(error: Any) -> list[str]:
    field = ".".join(error.path[1:])
    if error.rule == "required":
        missing = [name for name in error.definition["required"] if name not in error.value]
        return [f"{field}.{name}: is missing".removeprefix(".") for name in missing]
    return [f"{field or 'the body'}: must be {error.definition['description']}"]
