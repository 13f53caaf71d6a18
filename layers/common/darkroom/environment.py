"""Read a function's environment once, and report everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Self, get_args, get_origin, get_type_hints


class InvalidSettings(ValueError):
    """The function's environment is incomplete or invalid; the message names every invalid variable."""


@dataclass(frozen=True)
class Environment:
    """A function's environment variables. Faults are collected; `check` raises them together."""

    variables: Mapping[str, str]
    faults: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)  # all that was read

    def text(self, name: str) -> str:
        """Read a variable that must not be empty."""
        self.names.add(name)
        value = self.variables.get(name, "")
        if not value:
            self.faults.append(f"{name} is not set")
        return value

    def text_or_empty(self, name: str) -> str:
        """Read a variable that may be empty, but must be there."""
        self.names.add(name)
        if name not in self.variables:
            self.faults.append(f"{name} is not set")
        return self.variables.get(name, "")

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

    def words(self, name: str) -> frozenset[str]:
        """Read words separated by commas; there may be none."""
        self.names.add(name)
        return frozenset(filter(None, self.variables.get(name, "").split(",")))

    def check(self) -> None:
        """Raise InvalidSettings if anything read so far is missing or invalid."""
        if self.faults:
            raise InvalidSettings("; ".join(self.faults))


@dataclass(frozen=True)
class EnvironmentSettings:
    """Settings that are read from the environment.

    A subclass is a frozen dataclass. A field ``tasks_table`` is read from the variable ``TASKS_TABLE``, as its type
    says: ``str``, ``int`` or ``bool``. ``Annotated[int, "OTHER_NAME"]`` names another variable;
    ``Annotated[Limits, read_limits]`` names a function that makes the value from the `Environment`.
    """

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> Self:
        """Read the settings.

        Raises
        ------
        InvalidSettings
            Naming every variable that is missing or invalid.
        """
        environment = Environment(variables)
        settings = cls._read(environment)
        environment.check()
        return settings

    @classmethod
    def variables(cls) -> set[str]:
        """Name every variable that `from_environment` reads."""
        environment = Environment({})
        cls._read(environment)
        return environment.names

    @classmethod
    def _read(cls, environment: Environment) -> Self:
        hints = get_type_hints(cls, include_extras=True)
        return cls(**{each.name: _value(each.name.upper(), hints[each.name], environment) for each in fields(cls)})


def _value(name: str, hint: Any, environment: Environment) -> Any:
    if get_origin(hint) is Annotated:
        hint, named = get_args(hint)
        if callable(named):
            return named(environment)
        name = named
    return {str: environment.text, int: environment.number, bool: environment.flag}[hint](name)
