"""What the deployed function is told: read and checked once, at cold start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from darkroom.environment import Environment


@dataclass(frozen=True)
class Settings:
    """The order function's settings. ``payments_url`` is where the payment provider's API stands."""

    orders_table: str
    inventory_table: str
    order_events_topic_arn: str
    order_queue_url: str
    dead_letter_queue_url: str
    max_receives: int
    payment_secret_arn: str
    payments_url: str

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
            orders_table=variables.text("ORDERS_TABLE"),
            inventory_table=variables.text("INVENTORY_TABLE"),
            order_events_topic_arn=variables.text("ORDER_EVENTS_TOPIC_ARN"),
            order_queue_url=variables.text("ORDER_QUEUE_URL"),
            dead_letter_queue_url=variables.text("DEAD_LETTER_QUEUE_URL"),
            max_receives=variables.number("MAX_RECEIVES"),
            payment_secret_arn=variables.text("PAYMENT_SECRET_ARN"),
            payments_url=variables.text("PAYMENTS_URL"),
        )
        variables.check()
        return settings
