"""The settings of the deployed function, read and checked once, at cold start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from darkroom.addresses import Addresses
from darkroom.environment import Environment, EnvironmentSettings


def _orders_table(environment: Environment) -> str:
    return environment.text_or_empty("ORDERS_TABLE")


@dataclass(frozen=True)
class Settings(EnvironmentSettings):
    """The function's settings.

    Attributes
    ----------
    orders_table:
        Empty in a stack without orders.
    delivered:
        Where renditions are delivered, and which.
    max_image_bytes:
        The largest upload that is rendered.
    """

    uploads_bucket: str
    renditions_bucket: str
    images_table: str
    orders_table: Annotated[str, _orders_table]
    delivered: Annotated[Addresses, Addresses.read]
    max_image_bytes: int
