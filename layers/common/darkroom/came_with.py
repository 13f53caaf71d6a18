"""A message's attributes: how a dead letter keeps them and a redrive restores them.

A dead letter has Darkroom's attributes and the producer's. SQS takes ten attributes: if they are too many,
or share a name, one attribute, ``dead_letter``, holds Darkroom's and what has no room, as JSON.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from darkroom import errors

ERROR_CODE, REASON, TASK_ID = OURS = ("error_code", "reason", "task_id")
PACKED = "dead_letter"
_MOST_ATTRIBUTES = 10
_ERROR_CODES = {
    name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.DarkroomError)
}

#: A message attribute as SQS takes it: ``DataType`` and ``StringValue`` or ``BinaryValue``.
Attribute = Mapping[str, Any]


@dataclass(frozen=True)
class CameWith:
    """The producer's message attributes, and the message group and trace header that SQS keeps separately."""

    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    group_id: str | None = None
    trace_header: str | None = None

    def system_parameters(self) -> dict[str, Any]:
        """Return the group and the trace header as parameters of SendMessage."""
        parameters: dict[str, Any] = {}
        if self.group_id:
            parameters["MessageGroupId"] = self.group_id
        if self.trace_header:
            trace = {"DataType": "String", "StringValue": self.trace_header}
            parameters["MessageSystemAttributes"] = {"AWSTraceHeader": trace}
        return parameters


_at_work: ContextVar[CameWith] = ContextVar("came_with", default=CameWith())  # noqa: B039 # frozen


@contextmanager
def working_on(came_with: CameWith) -> Iterator[None]:
    """Let the dead letters that this thread sends keep what the message came with."""
    token = _at_work.set(came_with)
    try:
        yield
    finally:
        _at_work.reset(token)


def at_work() -> CameWith:
    """Return what the message came with that this thread works on."""
    return _at_work.get()


def from_lambda(record: Mapping[str, Any]) -> CameWith:
    """Read a record of an SQS event, whose attributes Lambda spells in its own way."""
    attributes = {
        name: _attribute(value["dataType"], value.get("stringValue"), value.get("binaryValue"))
        for name, value in (record.get("messageAttributes") or {}).items()
    }
    system = record.get("attributes", {})
    return CameWith(attributes, system.get("MessageGroupId"), system.get("AWSTraceHeader"))


def from_sqs(message: Mapping[str, Any]) -> CameWith:
    """Read a message as ReceiveMessage answers it."""
    system = message.get("Attributes", {})
    attributes = {name: _sendable(value) for name, value in message.get("MessageAttributes", {}).items()}
    return CameWith(attributes, system.get("MessageGroupId"), system.get("AWSTraceHeader"))


def is_redriven(attributes: Mapping[str, Attribute]) -> bool:
    """Whether the message was in a dead-letter queue."""
    return PACKED in attributes or _is_error_code(attributes.get(ERROR_CODE))


def packed(attributes: Mapping[str, Attribute]) -> dict[str, Any]:
    """Return what ``dead_letter`` holds; empty if there is none."""
    try:
        held = json.loads(attributes[PACKED]["StringValue"])
    except (KeyError, ValueError, RecursionError):
        return {}
    return held if isinstance(held, dict) else {}


def producers(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """Return the producer's attributes of a message that may have been a dead letter."""
    if not is_redriven(attributes):
        return dict(attributes)
    ours = (PACKED, *OURS) if _is_error_code(attributes.get(ERROR_CODE)) else (PACKED,)
    held = packed(attributes).get("attributes", {})
    return {name: value for name, value in attributes.items() if name not in ours} | {
        name: _attribute(value["DataType"], value.get("StringValue"), value.get("BinaryValue"))
        for name, value in held.items()
    }


def with_ours(came: Mapping[str, Attribute], ours: Mapping[str, str]) -> dict[str, Attribute]:
    """Add Darkroom's attributes to the producer's, as far as there is room and names differ."""
    clashing = {name: value for name, value in came.items() if name in (*ours, *OURS, PACKED)}
    others = {name: value for name, value in came.items() if name not in clashing}
    if len(others) + len(ours) + bool(clashing) <= _MOST_ATTRIBUTES:
        return others | _texts(ours) | (_packed({"attributes": clashing}) if clashing else {})
    # The largest attributes stay as they are: packed, they would take more of the message's size.
    by_size = sorted((name for name in came if name != PACKED), key=lambda name: -len(str(came[name])))
    kept = {name: came[name] for name in by_size[: _MOST_ATTRIBUTES - 1]}
    left = {name: value for name, value in came.items() if name not in kept}
    return kept | _packed(dict(ours) | ({"attributes": left} if left else {}))


def given_back(came: Mapping[str, Attribute], error_code: str) -> dict[str, Attribute]:
    """Return the attributes of a redriven message: the producer's, and the mark by which functions know it."""
    return with_ours(came, {ERROR_CODE: error_code}) if error_code else dict(came)


def size_of(attributes: Mapping[str, Attribute]) -> int:
    """Return the bytes that SQS counts: of each attribute's name, type and value."""
    return sum(
        len(name.encode())
        + len(value["DataType"].encode())
        + len(value.get("StringValue", "").encode())
        + len(value.get("BinaryValue", b""))
        for name, value in attributes.items()
    )


def _is_error_code(attribute: Attribute | None) -> bool:
    """Whether it is one of Darkroom's: a producer may have an attribute of this name, too."""
    return (attribute or {}).get("StringValue") in _ERROR_CODES


def _attribute(data_type: str, text: str | None, binary: str | None) -> Attribute:
    if binary is not None:
        return {"DataType": data_type, "BinaryValue": base64.b64decode(binary)}
    return {"DataType": data_type, "StringValue": text or ""}


def _sendable(attribute: Attribute) -> Attribute:
    return {name: value for name, value in attribute.items() if name in ("DataType", "StringValue", "BinaryValue")}


def _texts(values: Mapping[str, str]) -> dict[str, Attribute]:
    return {name: {"DataType": "String", "StringValue": value} for name, value in values.items()}


def _packed(held: Mapping[str, Any]) -> dict[str, Attribute]:
    text = json.dumps(held, ensure_ascii=False, default=lambda binary: base64.b64encode(binary).decode())
    return _texts({PACKED: text})
