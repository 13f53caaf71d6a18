"""Run the events of ``events/`` unchanged on the laptop stack: the objects that they name, and `make invoke`."""

from __future__ import annotations

import base64
import json
import tomllib
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console

from local.config import PROJECT, LaptopError
from local.inventory import read_stock, set_stock
from local.stack import Stack
from operations.terminal import printable_json

_SAMPLES = PROJECT / "samples"
# S3 sends no event for a name without a suffix: the image is rendered only by an event of the folder.
_PHOTOS = {
    "events/Käthe 1": "Käthe + Otto am See.jpg",
    "events/Otto": "globe.png",
    "events/am+See": "rocket-turned.jpg",
}
_STOCK = {"print-30x40": 50, "frame-oak": 50, "album-linen": 0}


def provide(stack: Stack) -> None:
    """Create the photos and the products that the events name, if they are missing."""
    bucket = stack.outputs["UploadsBucketName"]
    there = {found["Key"] for found in stack.s3.list_objects_v2(Bucket=bucket, Prefix="events/").get("Contents", [])}
    for key in _PHOTOS.keys() - there:
        stack.s3.upload_file(str(_SAMPLES / _PHOTOS[key]), bucket, key)
    set_stock(stack, {p: _STOCK[p] for p in _STOCK.keys() - read_stock(stack, _STOCK).keys()})


def invoke(stack: Stack, console: Console, path: Path) -> int:
    """Send a deployed function an event and show what it answers and logs; returns 1 if the function fails.

    Raises
    ------
    LaptopError
        The file does not hold an event of a function of the stack.
    """
    try:
        event = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise LaptopError(f"EVENT={path} cannot be read: {error}. Choose a file of events/") from error
    name, function = function_of(stack, event)
    provide(stack)
    started = monotonic()
    with console.status(f"{name} ..."):
        answer = stack.lambda_.invoke(FunctionName=function, Payload=json.dumps(event).encode(), LogType="Tail")
    log = base64.b64decode(answer.get("LogResult", "")).decode(errors="replace").strip()
    print(printable_json(log + "\n" * bool(log) + answer["Payload"].read().decode()))  # for programs, too
    failed = "FunctionError" in answer
    console.print(f"{'[red]✗[/]' if failed else '[green]✓[/]'} {name}, {monotonic() - started:.1f} s")
    return 1 if failed else 0


def function_of(stack: Stack, event: Any) -> tuple[str, str]:
    """Find the function that an event is for: its name in the template, and the name to call. Raises LaptopError."""
    match event:
        case {"Records": [{"eventSource": "aws:sqs", "eventSourceARN": str(arn)}, *_]}:
            mappings = stack.lambda_.list_event_source_mappings(EventSourceArn=arn)["EventSourceMappings"]
            arns = [mapping["FunctionArn"] for mapping in mappings]
            missing = f"No function of the stack reads {arn}."
        case {"Records": [{"eventSource": "aws:s3"}, *_]}:  # the one that samconfig.toml names for sam local invoke
            settings = tomllib.loads((PROJECT / "samconfig.toml").read_text())
            name = settings["default"]["local_invoke"]["parameters"]["function_logical_id"]
            return name, stack.outputs[f"{name}Name"]
        case {"eventSource": "aws:rmq"}:
            return "RelayRabbitMqFunction", stack.outputs["RelayRabbitMqFunctionName"]
        case _:
            arns, missing = [], "The file holds no event of S3, SQS or RabbitMQ."
    names = {value: output for output, value in stack.outputs.items() if output.endswith("FunctionName")}
    for arn in arns:
        function = arn.split(":function:")[1]
        if output := names.get(function.partition(":")[0]):
            return output.removesuffix("Name"), function
    raise LaptopError(f"{missing} Choose a file of events/")
