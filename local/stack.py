"""The deployed stack: build and deploy it with the SAM CLI, and reach it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shlex
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from rich.markup import escape

from functions.process_image.rendition_set import InvalidRenditionSet, load_rendition_set
from local.config import PROJECT, LaptopError, LocalConfig, build_environment, sam_command, template_parameters
from local.emulators import aws_emulator, mq_poller, payments, rabbitmq, rabbitmq_install
from local.emulators.processes import check_free
from operations.deployed import DeployedStack
from operations.rabbitmq_queues import declare_queues

if TYPE_CHECKING:
    from rich.console import Console

# What a deployment is made of; a change of anything else needs no new one.
_SOURCES = ("template.yaml", "samconfig.toml", "api", "bundle", "functions", "layers")
_BUILD = PROJECT / ".local" / "build"  # as samconfig.toml has it
_BUILT_FROM = _BUILD.with_name("build.sources")


@dataclass(frozen=True)
class Stack(DeployedStack):
    """The stack that is deployed on this laptop, made from ``stack.json``."""

    endpoint_url: str
    payments_url: str
    rabbitmq_url: str
    credentials: dict[str, str]
    sources: str

    def client(self, service: Any) -> Any:
        """Make a client of a service; in a session of its own, since the person's AWS profile has no say here."""
        session = boto3.Session(
            aws_access_key_id=self.credentials["aws_access_key_id"],
            aws_secret_access_key=self.credentials["aws_secret_access_key"],
            region_name=self.region,
        )
        return session.client(service, endpoint_url=self.endpoint_url, config=Config(max_pool_connections=20))


def load(config: LocalConfig) -> Stack:
    """Read how to reach the deployed stack. Raises LaptopError if there is none."""
    process = aws_emulator.running(config)
    if process is None or not config.stack_file.exists():
        raise LaptopError("The laptop stack is not running. Start it: make up")
    aws_emulator.check_port(process, config)
    try:
        return Stack(**json.loads(config.stack_file.read_text()))
    except TypeError:
        raise LaptopError("The laptop stack was started by another version of this. Stop it first: make down") from None


def environment_of(deployed: Stack) -> list[str]:
    """Commands for a shell, after which any client of AWS speaks to the stack and its outputs are variables."""
    variables = {
        "AWS_ENDPOINT_URL": deployed.endpoint_url,
        "AWS_DEFAULT_REGION": deployed.region,
        **{name.upper(): value for name, value in deployed.credentials.items()},
        **deployed.outputs,
    }
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]


def up(config: LocalConfig, console: Console, *, broker: bool = True) -> Stack:
    """Bring the stack up: start the emulator unless it runs, and deploy unless what is deployed is what stands here.

    Parameters
    ----------
    broker:
        Without it RabbitMQ is not started; a later call may start it.

    Raises
    ------
    LaptopError
        With one sentence on what is in the way.
    """
    _check_rendition_set()
    with _alone(config):
        return _up(config, console, broker=broker and rabbitmq.installed())


def _up(config: LocalConfig, console: Console, *, broker: bool) -> Stack:
    servers = [(aws_emulator, (config.port, config.tls_port)), (payments, (config.payments_port,))]
    if broker:
        servers.append((rabbitmq, (config.rabbitmq_port, config.rabbitmq_node_port)))
    process = aws_emulator.running(config)
    if process is not None:
        aws_emulator.check_port(process, config)
        aws_emulator.check_age(process)
    missing = [server for server, _ in servers if server.running(config) is None]
    for port in [port for server, ports in servers if server in missing for port in ports]:
        check_free(port)
    with ThreadPoolExecutor(1) as aside:
        start_of_broker = aside.submit(_start_broker, config) if broker else None  # it takes ten seconds
        if aws_emulator in missing:
            with console.status("Starting the emulator ..."):
                aws_emulator.start(config)
            console.print(f"[green]✓[/] emulator at {config.endpoint_url}")
        else:
            aws_emulator.set_faults(config, {})  # those of a run that was killed
        if payments in missing:
            with console.status("Starting the payment provider ..."):
                payments.start(config)
            console.print(f"[green]✓[/] payment provider at {config.payments_url}")
        else:
            payments.set_faults(config.payments_url, 0)  # those of a run that was killed
        stack = _deploy(config, console)
        if start_of_broker:
            with console.status("Starting RabbitMQ ..."):
                start_of_broker.result()
        if rabbitmq in missing:
            console.print(f"[green]✓[/] RabbitMQ at 127.0.0.1:{config.rabbitmq_port}")
    if not stack.rabbitmq_url:
        reason = escape(rabbitmq_install.why_left_out())
        console.print(f"[yellow]![/] The RabbitMQ intake is left out: {reason}", soft_wrap=True)
    elif broker and mq_poller.running(config) is None:
        mq_poller.start(config, stack.outputs["RelayRabbitMqFunctionName"], stack.region)
    return stack


def _start_broker(config: LocalConfig) -> None:
    if rabbitmq.running(config) is None:
        rabbitmq.start(config)
    declare_queues(config.rabbitmq_url)


def _deploy(config: LocalConfig, console: Console) -> Stack:
    sources = _hash_of_sources(template_parameters(config), rabbitmq.installed())
    if config.stack_file.exists() and (stack := load(config)).sources == sources:
        return stack
    with console.status("sam build: the functions and their layers ..."):
        _build(config)
    console.print("[green]✓[/] sam build")
    with console.status("sam deploy: the template ..."):
        run_sam(config, ["deploy"], log="sam-deploy.log")
    stack = _describe(config, sources)
    stack.secretsmanager.put_secret_value(SecretId=stack.outputs["PaymentSecretArn"], SecretString=payments.KEY)
    config.stack_file.write_text(json.dumps(asdict(stack), indent=2) + "\n")
    console.print(f"[green]✓[/] sam deploy: stack {stack.stack_name}")
    mq_poller.stop(config)  # the function that it invokes may have another name now
    return stack


def _build(config: LocalConfig) -> None:
    """Build once for all stacks of this folder: what is built depends on the sources and the interpreter alone."""
    with _BUILD.with_name("build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        parameters = template_parameters(config)
        sources = _hash_of_sources(parameters["PythonRuntime"], parameters["Architecture"])
        built = (_BUILD / "template.yaml").exists() and _BUILT_FROM.exists()
        if not built or _BUILT_FROM.read_text() != sources:
            run_sam(config, ["build"], log="sam-build.log")
            _BUILT_FROM.write_text(sources)


@contextmanager
def _alone(config: LocalConfig) -> Iterator[None]:
    """Hold the place against another make that brings it up. Raises LaptopError where one does already."""
    config.folder.mkdir(parents=True, exist_ok=True)
    with (config.folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LaptopError("Another make is bringing the laptop stack up. Wait until it is done.") from None
        yield


def down(config: LocalConfig) -> bool:
    """Stop the stack, and what was in it is gone; returns whether anything was running."""
    stopped = [server.stop(config) for server in (mq_poller, rabbitmq, payments, aws_emulator)]
    return any(stopped)


def run_sam(config: LocalConfig, arguments: Sequence[str], *, log: str | None = None) -> int:
    """Run a SAM command against the laptop stack.

    Parameters
    ----------
    log:
        File name for what it says; without one it speaks to the terminal.

    Returns
    -------
    int
        Its exit code, where it speaks to the terminal.

    Raises
    ------
    LaptopError
        It failed; with its last words. Only where it speaks to a log.
    """
    environment = build_environment() | {
        "AWS_ENDPOINT_URL": config.endpoint_url,
        "AWS_ACCESS_KEY_ID": aws_emulator.ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": aws_emulator.SECRET_ACCESS_KEY,
        "AWS_DEFAULT_REGION": _setting("region"),
        "SAM_CLI_TELEMETRY": "0",
        "__SAM_CLI_APP_DIR": str(config.folder / "sam-cli"),  # and not the home folder
    }
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        environment.pop(name, None)
    if arguments[0] == "build":
        _BUILT_FROM.unlink(missing_ok=True)
    path = config.logs / log if log else None
    # SAM leaves its temporary files behind: empty folders of every build, the layers' archives of every sync.
    with (
        tempfile.TemporaryDirectory(prefix="sam-", dir=config.folder, ignore_cleanup_errors=True) as temporary,
        path.open("wb") if path else nullcontext() as output,
    ):
        code = subprocess.run(
            sam_command(config, arguments),
            env=environment | {"TMPDIR": temporary},
            cwd=PROJECT,
            check=False,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
        ).returncode
    if path and code != 0:
        raise LaptopError(f"sam {arguments[0]} failed: {_why(path)} (all of it in {path.relative_to(PROJECT)})")
    return code


def _check_rendition_set() -> None:
    """Say now what the deployed function would say at every start, where nobody looks."""
    try:
        load_rendition_set(PROJECT / "functions" / "process_image" / "renditions.toml")
    except InvalidRenditionSet as error:
        raise LaptopError(str(error)) from error


def _describe(config: LocalConfig, sources: str) -> Stack:
    stack = Stack(
        endpoint_url=config.endpoint_url,
        payments_url=config.payments_url,
        rabbitmq_url=config.rabbitmq_url if rabbitmq.installed() else "",
        region=_setting("region"),
        stack_name=_setting("stack_name"),
        credentials={
            "aws_access_key_id": aws_emulator.ACCESS_KEY_ID,
            "aws_secret_access_key": aws_emulator.SECRET_ACCESS_KEY,
        },
        outputs={},
        sources=sources,
    )
    (description,) = stack.cloudformation.describe_stacks(StackName=stack.stack_name)["Stacks"]
    stack.outputs.update({o["OutputKey"]: o["OutputValue"] for o in description["Outputs"]})
    # The emulator serves the API under a path of its own: the names of AWS are not ours.
    api_id, stage = re.fullmatch(r"https://(\w+)\..*/(\w+)", stack.outputs["ApiUrl"]).groups()  # type: ignore[union-attr]
    key = stack.client("apigateway").get_api_key(apiKey=stack.outputs["ApiKeyId"], includeValue=True)
    stack.outputs["ApiKey"] = key["value"]
    stack.outputs["ApiUrl"] = f"{config.endpoint_url}/_aws/execute-api/{api_id}/{stage}"
    return stack


def _setting(name: str) -> str:
    settings = tomllib.loads((PROJECT / "samconfig.toml").read_text())
    return str(settings["local"]["global"]["parameters"][name])


def _hash_of_sources(*parameters: object) -> str:
    digest = hashlib.sha256(repr(parameters).encode())
    for path in sorted(_source_files()):
        digest.update(str(path.relative_to(PROJECT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _source_files() -> Iterator[Path]:
    for name in _SOURCES:
        path = PROJECT / name
        inside = path.rglob("*") if path.is_dir() else [path]
        yield from (p for p in inside if p.is_file() and "__pycache__" not in p.parts)


def _why(log: Path) -> str:
    """The line of a SAM log that says most."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("Error", "ERROR", "make:"))]
    return (telling or lines or ["it said nothing"])[-1]
