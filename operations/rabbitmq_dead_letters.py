"""Check the RabbitMQ intake's dead letters again, with the relay's own rules and its present routes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

from darkroom.environment import InvalidSettings
from darkroom.sending import OutgoingMessage

from functions.relay_rabbitmq.deliveries import Delivery
from functions.relay_rabbitmq.relay import Accepted, judge
from functions.relay_rabbitmq.settings import Settings
from operations.dead_letters import DeadLetter
from operations.deployed import DeployedStack
from operations.errors import OperationsError
from operations.redrive import HandOver


def read_settings(stack: DeployedStack) -> Settings:
    """Read the deployed relay's settings; only the routes matter. Raises OperationsError, ClientError."""
    name = stack.outputs["RelayRabbitMqFunctionName"]
    function = stack.lambda_.get_function_configuration(FunctionName=name)
    try:
        return Settings.from_environment(function.get("Environment", {}).get("Variables", {}))
    except InvalidSettings as error:
        raise OperationsError(f"Function {name} has another version than this code: {error}") from error


def judge_again(settings: Settings) -> Callable[[DeadLetter], HandOver | str]:
    """Make the function that decides where a dead letter goes now, or why it must stay."""

    def judged(letter: DeadLetter) -> HandOver | str:
        if part := letter.text("part"):
            return f"It is part {part.partition(' ')[0]} of a message too large for SQS; its producer can send less."
        outcome = judge(_delivery(letter), settings.routes)
        if isinstance(outcome, Accepted):
            return HandOver(settings.queue_urls[outcome.target], OutgoingMessage(outcome.body))
        return f"{outcome.fault.error_code}: {outcome.fault}"

    return judged


def _delivery(letter: DeadLetter) -> Delivery:
    """Rebuild the original delivery, with its message_id, if any."""
    try:
        properties = json.loads(letter.text("properties"))
    except ValueError:  # an older release did not keep them; an id made from the content is not a message_id
        task_id = letter.text("task_id")
        properties = {"message_id": "" if task_id.startswith("rabbitmq-") else task_id}
    match letter.text("body_encoding"):
        case "base64":
            data = base64.b64decode(letter.body)
        case "empty":
            data = b""
        case _:
            data = letter.body.encode()
    return Delivery(
        queue=letter.text("queue"),
        data=data,
        content_encoding=letter.text("content_encoding"),
        message_id=properties.get("message_id") or None,
        headers={},  # headers do not affect the route
        content_type=properties.get("content_type", ""),
    )
