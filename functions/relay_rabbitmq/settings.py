"""What the deployed function is told: read and checked once, at cold start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from darkroom.environment import Environment

from functions.relay_rabbitmq.relay import Target


@dataclass(frozen=True)
class Settings:
    """The relay's settings. ``routes`` says which RabbitMQ queue, named ``queue::vhost``, leads where."""

    routes: Mapping[str, Target]
    queue_urls: Mapping[Target, str]
    dead_letter_queue_url: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings.

        Raises
        ------
        InvalidSettings
            Naming every variable that is missing or wrong.
        """
        variables = Environment(environment)
        settings = cls(
            routes=_routes(variables),
            queue_urls=MappingProxyType(
                {
                    Target.IMAGE_TASKS: variables.text("IMAGE_TASKS_QUEUE_URL"),
                    Target.ORDERS: variables.text("ORDER_QUEUE_URL"),
                }
            ),
            dead_letter_queue_url=variables.text("DEAD_LETTER_QUEUE_URL"),
        )
        variables.check()
        return settings


def _routes(variables: Environment) -> Mapping[str, Target]:
    text = variables.text("ROUTES")
    routes: dict[str, Target] = {}
    try:
        routes = {queue: Target(target) for queue, target in json.loads(text or "{}").items()}
        understood = all("::" in queue for queue in routes)
    except (ValueError, AttributeError):
        understood = False
    if not understood:
        targets = " or ".join(f'"{target}"' for target in Target)
        variables.faults.append(
            f'ROUTES is {text!r}; it must be JSON such as {{"queue::vhost": target}}, target {targets}'
        )
    return MappingProxyType(routes)
