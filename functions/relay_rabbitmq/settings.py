"""The settings of the deployed function, read and checked once, at cold start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated

from darkroom.environment import Environment, EnvironmentSettings

from functions.relay_rabbitmq.relay import Target

_QUEUE_URLS = {Target.IMAGE_TASKS: "IMAGE_TASKS_QUEUE_URL", Target.ORDERS: "ORDER_QUEUE_URL"}


def _routes(environment: Environment) -> Mapping[str, Target]:
    text = environment.text("ROUTES")
    routes: dict[str, Target] = {}
    try:
        routes = {queue: Target(target) for queue, target in json.loads(text or "{}").items()}
        understood = all("::" in queue for queue in routes)
    except (ValueError, AttributeError):
        understood = False
    if not understood:
        targets = " or ".join(f'"{target}"' for target in Target)
        environment.faults.append(
            f'ROUTES is {text!r}; it must be JSON such as {{"queue::vhost": target}}, target {targets}'
        )
    return MappingProxyType(routes)


def _queue_urls(environment: Environment) -> Mapping[Target, str]:
    """Return the queues to which routes lead; a stack without orders has no order queue."""
    targets = set(_routes(Environment(environment.variables)).values()) or set(Target)
    return MappingProxyType({one: environment.text(name) for one, name in _QUEUE_URLS.items() if one in targets})


@dataclass(frozen=True)
class Settings(EnvironmentSettings):
    """The relay's settings. ``routes`` maps each RabbitMQ queue, named ``queue::vhost``, to its target."""

    routes: Annotated[Mapping[str, Target], _routes]
    queue_urls: Annotated[Mapping[Target, str], _queue_urls]
    dead_letter_queue_url: str
