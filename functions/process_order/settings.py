"""The settings of the deployed function, read and checked once, at cold start."""

from __future__ import annotations

from dataclasses import dataclass

from darkroom.environment import EnvironmentSettings


@dataclass(frozen=True)
class Settings(EnvironmentSettings):
    """The order function's settings. ``payments_url`` is the address of the payment provider's API."""

    orders_table: str
    inventory_table: str
    order_events_topic_arn: str
    order_queue_url: str
    dead_letter_queue_url: str
    max_receives: int
    payment_secret_arn: str
    payments_url: str
