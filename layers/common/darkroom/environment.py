"""Read a function's environment once, and report everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


class InvalidSettings(ValueError):
    """The function's environment is incomplete or invalid; the message names every invalid variable."""


@dataclass(frozen=True)
class Environment:
    """A function's environment variables. Faults are collected; `check` raises them together."""

    variables: Mapping[str, str]
    faults: list[str] = field(default_factory=list)

    def text(self, name: str) -> str:
        """Read a variable that must not be empty."""
        value = self.variables.get(name, "")
        if not value:
            self.faults.append(f"{name} is not set")
        return value

    def number(self, name: str) -> int:
        """Read a whole number above 0."""
        value = self.text(name)
        if value and not (value.isdecimal() and int(value) > 0):
            self.faults.append(f"{name} is {value!r}; it must be a whole number above 0")
        return int(value) if value.isdecimal() else 0

    def flag(self, name: str) -> bool:
        """Read ``true`` or ``false``."""
        value = self.text(name)
        if value not in ("", "true", "false"):
            self.faults.append(f"{name} is {value!r}; it must be 'true' or 'false'")
        return value == "true"

    def check(self) -> None:
        """Raise InvalidSettings if anything read so far is missing or invalid."""
        if self.faults:
            raise InvalidSettings("; ".join(self.faults))
