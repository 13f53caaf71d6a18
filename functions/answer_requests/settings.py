"""The settings of the deployed function, read and checked once, at cold start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from darkroom.environment import Environment, EnvironmentSettings


def _may_be_empty(name: str) -> Callable[[Environment], str]:
    def read(environment: Environment) -> str:
        environment.names.add(name)
        return environment.variables.get(name, "")

    return read


@dataclass(frozen=True)
class Settings(EnvironmentSettings):
    """The function's settings.

    Attributes
    ----------
    orders_table:
        Empty in a stack without orders.
    images_url:
        Where renditions are delivered; empty without delivery.
    max_image_bytes:
        The largest upload that is rendered.
    """

    uploads_bucket: str
    renditions_bucket: str
    images_table: str
    orders_table: Annotated[str, _may_be_empty("ORDERS_TABLE")]
    images_url: Annotated[str, _may_be_empty("IMAGES_URL")]
    max_image_bytes: int
