"""The settings of the deployed function, read and checked once, at cold start."""

from __future__ import annotations

from dataclasses import dataclass

from darkroom.environment import EnvironmentSettings


@dataclass(frozen=True)
class Settings(EnvironmentSettings):
    """The sweep's settings. ``payments_url`` is the address of the payment provider's API."""

    orders_table: str
    order_queue_url: str
    payment_secret_arn: str
    payments_url: str
