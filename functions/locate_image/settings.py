"""The settings of the deployed function, read and checked once, at cold start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from darkroom.environment import Environment, EnvironmentSettings


def _prefixes(environment: Environment) -> tuple[str, ...]:
    return tuple(environment.text_or_empty("DELIVERY_PREFIXES").split(","))


@dataclass(frozen=True)
class Settings(EnvironmentSettings):
    """The function's settings. ``delivery_prefixes``: with which of them a rendition's key must begin."""

    images_table: str
    delivery_prefixes: Annotated[tuple[str, ...], _prefixes]
