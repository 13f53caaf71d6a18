"""Where things stand on this machine, and what the machine is."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from operations.errors import OperationsError

PROJECT = Path(__file__).resolve().parent.parent
# Commands of the SAM CLI that take the template's parameters.
_WITH_PARAMETERS = ("build", "deploy", "sync")


class LaptopError(OperationsError):
    """Something the person at the laptop can fix; ``str()`` of it says what and how."""


@dataclass(frozen=True)
class LocalConfig:
    """One laptop stack: its folder, its ports and its name. The integration tests have another than the person."""

    folder: Path
    port: int

    @property
    def endpoint_url(self) -> str:
        """Where clients of this laptop find the emulator."""
        return f"http://{self.address}"

    @property
    def address(self) -> str:
        """Host and port of the plain listener."""
        return f"127.0.0.1:{self.port}"

    @property
    def tls_port(self) -> int:
        """Where the deployed functions find it."""
        return self.port + 1

    @property
    def payments_port(self) -> int:
        """Where the payment provider stands."""
        return self.port + 2

    @property
    def payments_url(self) -> str:
        """How clients and functions find the payment provider."""
        return f"http://127.0.0.1:{self.payments_port}"

    @property
    def rabbitmq_port(self) -> int:
        """Where the RabbitMQ broker stands."""
        return self.port + 3

    @property
    def rabbitmq_node_port(self) -> int:
        """Where the broker's node would talk to other nodes; it cannot do without."""
        return self.port + 4

    @property
    def rabbitmq_url(self) -> str:
        """Its clients' address; RabbitMQ makes its user ``guest`` and serves it on loopback addresses only."""
        return f"amqp://guest:guest@127.0.0.1:{self.rabbitmq_port}"

    @property
    def stack_file(self) -> Path:
        """How any client reaches the deployed stack."""
        return self.folder / "stack.json"

    @property
    def pid_file(self) -> Path:
        """Which process the emulator is."""
        return self.folder / "emulator.pid"

    @property
    def logs(self) -> Path:
        """What the tools said."""
        return self.folder / "logs"


def local_config() -> LocalConfig:
    """Read the place from DARKROOM_FOLDER and PORT; by default ``.local`` and 4566.

    Raises
    ------
    LaptopError
        PORT is none.
    """
    folder = PROJECT / (os.environ.get("DARKROOM_FOLDER") or ".local")
    port = os.environ.get("PORT") or "4566"
    if not port.isdecimal() or not 1024 <= int(port) <= 65531:
        raise LaptopError(f"PORT is {port!r}; it must be a number from 1024 to 65531.")
    return LocalConfig(folder, int(port))


def tool(environment: str, name: str) -> Path:
    """Find a program in one of the virtual environments that ``make setup`` makes. Raises LaptopError."""
    path = PROJECT / ".local" / environment / "bin" / name
    if not path.exists():
        raise LaptopError(f"{path.relative_to(PROJECT)} is missing. Run: make setup")
    return path


def template_parameters(config: LocalConfig) -> dict[str, str]:
    """Template parameters that fit this machine: its interpreter, its payment provider, and few functions at once.

    Every function of the emulator is a process with its own copy of the layers. One that renders keeps a core busy;
    one that takes orders mostly waits.
    """
    return {
        "PythonRuntime": f"python{sys.version_info.major}.{sys.version_info.minor}",
        "Architecture": "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x86_64",
        "ProcessImageConcurrency": str(max(os.cpu_count() or 2, 2)),
        "ProcessOrderConcurrency": "4",
        "PaymentsUrl": config.payments_url,
        "GradualRollout": "false",  # there is no CodeDeploy here
    }


def sam_command(config: LocalConfig, arguments: Sequence[str]) -> list[str | Path]:
    """A command of the SAM CLI with the laptop stack's settings. Raises LaptopError if the SAM CLI is missing."""
    command: list[str | Path] = [tool("sam", "sam"), *arguments, "--config-env", "local"]
    if arguments[0] in _WITH_PARAMETERS:
        command += [
            "--parameter-overrides",
            *(f"{name}={value}" for name, value in template_parameters(config).items()),
        ]
    return command


def build_environment() -> dict[str, str]:
    """The environment in which ``sam build`` finds the interpreter that the emulator runs functions with.

    It builds for that instead of Lambda's.
    """
    environment = os.environ | {
        "DARKROOM_BUILD_FOR_THIS_MACHINE": "1",
        "PATH": f"{tool('sam', 'python').parent}{os.pathsep}{os.environ['PATH']}",
    }
    environment.pop("PYTHONPATH", None)
    return environment
