"""What the deployed function is told: read and checked once, at cold start."""

from __future__ import annotations

from dataclasses import dataclass

from darkroom.environment import EnvironmentSettings


@dataclass(frozen=True)
class Settings(EnvironmentSettings):
    """The sweep's settings. ``payments_url`` is where the payment provider's API stands."""

    orders_table: str
    order_queue_url: str
    payment_secret_arn: str
    payments_url: str
