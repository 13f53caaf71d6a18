"""The settings of the deployed function, read and checked once, at cold start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from darkroom.environment import Environment, EnvironmentSettings


def _read_retention(environment: Environment) -> int | None:
    if environment.text("ORDER_RETENTION_DAYS") in ("", "never"):
        return None
    return environment.number("ORDER_RETENTION_DAYS")


@dataclass(frozen=True)
class Settings(EnvironmentSettings):
    """The order function's settings.

    ``payments_url`` is the address of the payment provider's API. ``order_retention_days`` is None if finished orders
    are kept.
    """

    orders_table: str
    inventory_table: str
    order_retention_days: Annotated[int | None, _read_retention]
    order_events_topic_arn: str
    order_queue_url: str
    dead_letter_queue_url: str
    max_receives: int
    payment_secret_arn: str
    payments_url: str
