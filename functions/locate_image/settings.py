"""The settings of the deployed function, read and checked once, at cold start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from darkroom.addresses import read_prefixes
from darkroom.environment import EnvironmentSettings


@dataclass(frozen=True)
class Settings(EnvironmentSettings):
    """The function's settings. ``delivery_prefixes``: with which of them a rendition's key must begin."""

    images_table: str
    delivery_prefixes: Annotated[tuple[str, ...], read_prefixes]
