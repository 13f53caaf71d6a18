"""The laptop stack's folders, ports, keys and tools, and the machine's properties."""

from __future__ import annotations

import json
import os
import platform
import secrets
import sys
from collections.abc import MutableMapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from operations.errors import OperationsError

PROJECT = Path(__file__).resolve().parent.parent
# Commands of the SAM CLI that take the template's parameters.
_WITH_PARAMETERS = ("build", "deploy", "sync")
RABBITMQ_USER = "darkroom"
#: A bucket in addition to the stack's own, whose photos are rendered once it exists and tells EventBridge.
EXISTING_BUCKET = "older-photos"


class LaptopError(OperationsError):
    """An error that the user can fix; ``str()`` says what is wrong and how to fix it."""


@dataclass(frozen=True)
class Keys:
    """Random keys that authenticate clients of this stack to the emulators; only this user can read them."""

    aws_access_key_id: str
    aws_secret_access_key: str
    rabbitmq_password: str
    stripe_key: str

    @classmethod
    def by_chance(cls) -> Keys:
        """Make a new set."""
        return cls(
            f"AKIA{secrets.token_hex(8).upper()}",
            secrets.token_hex(20),
            secrets.token_hex(16),
            f"sk_test_{secrets.token_hex(16)}",
        )


@dataclass(frozen=True)
class LocalConfig:
    """One laptop stack: its folder, ports and name. The integration tests have stacks of their own."""

    folder: Path
    port: int

    @property
    def endpoint_url(self) -> str:
        """The emulator's URL for clients on this laptop."""
        return f"http://{self.address}"

    @property
    def address(self) -> str:
        """Host and port of the plain listener."""
        return f"127.0.0.1:{self.port}"

    @property
    def tls_port(self) -> int:
        """The emulator's port for the functions, which use TLS."""
        return self.port + 1

    @property
    def certificate(self) -> Path:
        """The emulator's certificate, which is made at each start."""
        return self.folder / "emulator.crt"

    @property
    def payments_port(self) -> int:
        """The payment provider's port."""
        return self.port + 2

    @property
    def payments_endpoint_url(self) -> str:
        """Where the functions find the payment provider; they have its key from the secret."""
        return f"http://127.0.0.1:{self.payments_port}"

    @property
    def payments_url(self) -> str:
        """Its clients' address, with the key that the payment provider starts with."""
        return f"http://{self.keys.stripe_key}:@127.0.0.1:{self.payments_port}"

    @property
    def rabbitmq_port(self) -> int:
        """The RabbitMQ broker's port."""
        return self.port + 3

    @property
    def rabbitmq_node_port(self) -> int:
        """The port for other RabbitMQ nodes, which a broker always opens."""
        return self.port + 4

    @property
    def web_port(self) -> int:
        """The port of the sample page's backend."""
        return self.port + 5

    @property
    def web_url(self) -> str:
        """The address of the sample page."""
        return f"http://localhost:{self.web_port}/"

    @property
    def images_url(self) -> str:
        """What the addresses of delivered pictures begin with: curl and browsers find .localhost on this machine."""
        return f"http://images.cloudfront.localhost:{self.port}"

    @property
    def rabbitmq_url(self) -> str:
        """The broker's URL, with the user and the password that it starts with."""
        return f"amqp://{RABBITMQ_USER}:{self.keys.rabbitmq_password}@127.0.0.1:{self.rabbitmq_port}"

    @property
    def keys(self) -> Keys:
        """The keys of the stack, made at its first start and valid until `forget_start`."""
        started: dict[str, Any] = (
            json.loads(self._start_file.read_text()) if self._start_file.exists() else {"port": self.port}
        )
        names = [field.name for field in fields(Keys)]
        if not started.keys() >= set(names):  # nothing was started, or by a version with fewer keys
            started = asdict(Keys.by_chance()) | started
            write_for_this_user(self._start_file, started)
        return Keys(**{name: started[name] for name in names})

    @property
    def started_port(self) -> int | None:
        """The port that the stack was started on, even if it was killed since; None if it was not started."""
        return int(json.loads(self._start_file.read_text())["port"]) if self._start_file.exists() else None

    def forget_start(self) -> None:
        """Forget keys and port, so that the next start chooses them again."""
        self._start_file.unlink(missing_ok=True)

    @property
    def _start_file(self) -> Path:
        return self.folder / "start.json"

    @property
    def stack_file(self) -> Path:
        """The file that says how clients reach the deployed stack."""
        return self.folder / "stack.json"

    @property
    def pid_file(self) -> Path:
        """The file with the emulator's process id."""
        return self.folder / "emulator.pid"

    @property
    def logs(self) -> Path:
        """The folder of the tools' logs."""
        return self.folder / "logs"


def write_for_this_user(path: Path, content: Any) -> None:
    """Write JSON that no other user of this machine can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    new.replace(path)


def local_config() -> LocalConfig:
    """Read the configuration from DARKROOM_FOLDER and PORT.

    The defaults are ``.local``, and the port that the stack was started on or 4566.

    Raises
    ------
    LaptopError
        PORT is not a valid port.
    """
    folder = PROJECT / (os.environ.get("DARKROOM_FOLDER") or ".local")
    port = os.environ.get("PORT") or str(LocalConfig(folder, 0).started_port or 4566)
    if not port.isdecimal() or not 1024 <= int(port) <= 65530:
        raise LaptopError(f"PORT is {port!r}; it must be a number from 1024 to 65530.")
    return LocalConfig(folder, int(port))


def tool(environment: str, name: str) -> Path:
    """Find a program in one of the virtual environments that ``make setup`` makes. Raises LaptopError."""
    path = PROJECT / ".local" / environment / "bin" / name
    if not path.exists():
        raise LaptopError(f"{path.relative_to(PROJECT)} is missing. Run: make setup")
    return path


def machine_architecture() -> str:
    """The name of this machine's architecture in Lambda."""
    return "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x86_64"


def template_parameters(config: LocalConfig) -> dict[str, str]:
    """Template parameters that fit this machine: its interpreter, its payment provider, and few functions at once.

    Every function of the emulator is a process with its own copy of the layers. One that renders keeps a core busy;
    one that processes orders mostly waits.
    """
    return {
        "PythonRuntime": f"python{sys.version_info.major}.{sys.version_info.minor}",
        "Architecture": machine_architecture(),
        "ProcessImageConcurrency": str(max(os.cpu_count() or 2, 2)),
        "ProcessOrderConcurrency": "4",
        "PaymentsUrl": config.payments_endpoint_url,
        "GradualRollout": "false",  # there is no CodeDeploy here
        "UploadOrigins": config.web_url.rstrip("/"),
        # Every flow, with its alarms, and a bucket that nobody needs to create.
        "ExistingUploadsBuckets": EXISTING_BUCKET,
        "RabbitMqIntake": "true",
        "Delivery": "true",
        "DeliveryUrl": config.images_url,
        "CreateDashboard": "true",
        "ResultsAreRead": "true",
    }


def sam_command(config: LocalConfig, arguments: Sequence[str]) -> list[str | Path]:
    """A command of the SAM CLI with the laptop stack's settings. Raises LaptopError if the SAM CLI is missing."""
    command: list[str | Path] = [tool("sam", "sam"), *arguments]
    if arguments[0] == "sync":  # it builds into the working folder: see `local.sam.run`
        command += ["--template-file", PROJECT / "template.yaml", "--config-file", PROJECT / "samconfig.toml"]
    if arguments[0] in _WITH_PARAMETERS:
        # The user's values come last and win. SAM accepts the option once, with its values one by one or in one word.
        option, parameters = "--parameter-overrides", template_parameters(config)
        ours = [f"{name}={value}" for name, value in parameters.items()]
        at = [number for number, word in enumerate(command) if str(word).partition("=")[0] == option]
        theirs = str(command[at[-1]]).partition("=")[2] if at else ""
        start, end = (at[-1], at[-1] + 1) if at else (len(command), len(command))
        command[start:end] = [option, *ours, *([theirs] if theirs else [])]
    return [*command, "--config-env", "local"]


def build_environment() -> dict[str, str]:
    """The environment in which ``sam build`` finds the interpreter that the emulator runs functions with.

    It builds for that instead of Lambda's.
    """
    environment = os.environ | {
        "DARKROOM_BUILD_FOR_THIS_MACHINE": "1",
        "PATH": f"{tool('sam', 'python').parent}{os.pathsep}{os.environ['PATH']}",
    }
    environment.pop("PYTHONPATH", None)
    keep_out_the_person(environment)
    return environment


def keep_out_the_person(environment: MutableMapping[str, str]) -> list[str]:
    """Remove the user's variables for AWS and proxies from an environment; returns the names of those for AWS."""
    foreign = [name for name in environment if name.startswith("AWS_")]
    for name in foreign:
        del environment[name]
    environment["AWS_CONFIG_FILE"] = environment["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    for name in ("no_proxy", "NO_PROXY"):  # the proxy itself is needed: a build downloads
        environment[name] = ",".join(filter(None, (environment.get(name, ""), "127.0.0.1", "localhost")))
    return foreign
