"""`make url`: print the addresses of a picture, delivered or signed."""

from __future__ import annotations

from darkroom.addresses import Addresses
from darkroom.environment import Environment
from darkroom.items import read_items, stored_renditions
from rich.console import Console

from functions.answer_requests.records import image_json
from functions.answer_requests.s3 import PresignedAddresses
from operations.deployed import DeployedStack
from operations.errors import OperationsError
from operations.terminal import printable


def run(stack: DeployedStack, key: str, rendition: str, console: Console) -> int:
    """Print a line for each address: the rendition, its content type, the address; returns the exit code.

    Parameters
    ----------
    key:
        The record's key: that of the upload.
    rendition:
        The name of the only one to print; empty for all.

    Raises
    ------
    OperationsError
        There is no such picture or rendition.
    ClientError, BotoCoreError
        AWS refuses or does not answer.
    """
    record = read_items(stack.dynamodb, stack.outputs["ImagesTableName"], "image_key", [key]).get(key)
    if record is None:
        raise OperationsError(f"There is no record of an image under {key}.")
    if record["state"] != "READY":
        reason = record.get("latest_fault", {}).get("reason", "")
        raise OperationsError(f"{key} is {record['state']}{f': {reason}' if reason else ', and has no renditions'}.")
    configuration = stack.lambda_.get_function_configuration(FunctionName=stack.outputs["ProcessImageFunctionName"])
    delivered = Addresses.read(Environment(configuration["Environment"]["Variables"]))
    signed = PresignedAddresses.from_now(stack.signing_s3, stack.outputs["RenditionsBucketName"])
    image = image_json(record, delivered, signed)
    found = [one for one in stored_renditions(image) if rendition in ("", one["name"])]
    if not found:
        names = ", ".join(one["name"] for one in image["renditions"])
        raise OperationsError(f"{key} has no rendition {rendition}. It has: {names}.")
    lines = [(one["name"], one["content_type"], one["url"]) for one in found]
    lines += dict.fromkeys((one["name"], "(current)", one["stable_url"]) for one in found if "stable_url" in one)
    widths = [max(map(len, column)) for column in list(zip(*lines, strict=True))[:2]]
    for name, kind, address in lines:
        line = f"{name:{widths[0]}}  {kind:{widths[1]}}  {address}"
        console.print(printable(line), soft_wrap=True)
    if "urls_expire_at" in image:
        console.print(f"Signed until {image['urls_expire_at']}.", soft_wrap=True)
    return 0
