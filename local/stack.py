"""The deployed stack: build and deploy it with the SAM CLI, and reach it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import yaml
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from functions.process_image.rendition_set import InvalidRenditionSet, load_rendition_set
from local.config import (
    PROJECT,
    LaptopError,
    LocalConfig,
    build_environment,
    sam_command,
    template_parameters,
    tool,
    write_for_this_user,
)
from local.emulators import aws_emulator, mq_poller, payments, rabbitmq, rabbitmq_install, web_page
from local.emulators.processes import check_free
from operations.deployed import DeployedStack, make_client
from operations.errors import OperationsError
from operations.rabbitmq_queues import declare_queues
from operations.status import Surroundings
from operations.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

# The sources of a deployment; a change of any other file needs no new one.
_SOURCES = ("template.yaml", "samconfig.toml", "api", "bundle", "functions", "layers")
_BUILD = PROJECT / ".local" / "build"  # as samconfig.toml has it
_BUILT_FROM = _BUILD.with_name("build.sources")
_ZIPPED = _BUILD / "zipped.json"  # the template, with an archive for each folder of code
# Options of `sam deploy` that zip nothing again.
DEPLOYED_AS_BUILT = ("--template-file", str(_ZIPPED), "--config-file", str(PROJECT / "samconfig.toml"))
# A queue whose visibility timeout is shorter for a while has the right one in a tag.
TIMEOUT_TAG = "darkroom:visibility-timeout"


@dataclass(frozen=True)
class Stack(DeployedStack):
    """The stack that is deployed on this laptop, made from ``stack.json``."""

    endpoint_url: str
    payments_url: str
    rabbitmq_url: str
    credentials: dict[str, str]
    sources: str
    code: dict[str, list[str]]

    @property
    def feeds_all_metrics(self) -> bool:
        """No: the emulator has only the metrics of invocations."""
        return False

    def signing_credentials(self) -> Credentials:
        """The keys that the emulator has since its start."""
        return Credentials(self.credentials["aws_access_key_id"], self.credentials["aws_secret_access_key"])

    def client(self, service: Any) -> Any:
        """Make a client of a service, in a session that ignores the user's AWS profile."""
        keys = self.signing_credentials()
        session = _session(keys.access_key, keys.secret_key, self.region)
        return make_client(session, service, endpoint_url=self.endpoint_url, config=Config(max_pool_connections=20))


@cache
def _session(key_id: str, secret: str, region: str) -> boto3.Session:
    """Keep the session of a set of keys: each command makes a new ``Stack``."""
    return boto3.Session(aws_access_key_id=key_id, aws_secret_access_key=secret, region_name=region)


class NotDeployed(LaptopError):
    """The emulator runs, but the stack in `stack_file` is not deployed to it."""


def load(config: LocalConfig) -> Stack:
    """Find the deployed stack, and check its file against the emulator. Raises LaptopError."""
    if aws_emulator.running(config) is None:
        raise LaptopError("The laptop stack is not running. Start it: make up")
    check_port(config)
    if not config.stack_file.exists():
        raise NotDeployed("The stack is not deployed to the emulator. Deploy it: make up")
    try:
        known = Stack(**json.loads(config.stack_file.read_text()))
    except (TypeError, ValueError):
        raise LaptopError("Another version of Darkroom started the laptop stack. Stop it first: make down") from None
    return _describe(config, known.sources, known.code)


def check_port(config: LocalConfig) -> None:
    """Raise LaptopError if the stack was started on another port than the configured one."""
    port = config.started_port or config.port
    running = any(server.running(config) for server in (aws_emulator, payments, rabbitmq, mq_poller, web_page))
    if port != config.port and running:
        raise LaptopError(f"The laptop stack is already up, on port {port}. Use PORT={port}, or stop it: make down")


def variables_of(deployed: Stack) -> dict[str, str]:
    """The variables that point every AWS client to the stack, and the stack's outputs."""
    return {
        "AWS_ENDPOINT_URL": deployed.endpoint_url,
        "AWS_DEFAULT_REGION": deployed.region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        **{name.upper(): value for name, value in deployed.credentials.items()},
        **deployed.outputs,
    }


def environment_of(deployed: Stack, foreign: Iterable[str]) -> list[str]:
    """Shell commands that point every AWS client to the stack and set its outputs as variables.

    Parameters
    ----------
    foreign:
        The shell's variables for other stacks, such as AWS_PROFILE.
    """
    variables = variables_of(deployed)
    loopback = "127.0.0.1,localhost"
    return [
        *(f"unset {name}" for name in foreign),
        *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
        *(f'export {name}="{loopback}${{{name}:+,${name}}}"' for name in ("NO_PROXY", "no_proxy")),
        # Version 1 of the AWS CLI ignores AWS_ENDPOINT_URL for SQS.
        'aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }',
    ]


def up(config: LocalConfig, console: Console, *, broker: bool = True) -> Stack:
    """Start the stack: start the emulator unless it runs, and deploy unless the deployed code is up to date.

    Parameters
    ----------
    broker:
        Whether to start RabbitMQ; a later call may start it.

    Raises
    ------
    LaptopError
        The stack cannot start; the message says why in one sentence.
    """
    _check_rendition_set()
    with _alone(config):
        return _up(config, console, broker=broker and rabbitmq.installed())


def _up(config: LocalConfig, console: Console, *, broker: bool) -> Stack:
    servers = [(aws_emulator, (config.port, config.tls_port)), (payments, (config.payments_port,))]
    if broker:
        servers.append((rabbitmq, (config.rabbitmq_port, config.rabbitmq_node_port)))
    check_port(config)
    if config.started_port != config.port:  # nothing is running
        config.forget_start()
    config.keys  # noqa: B018 # created here, before two servers read them at once
    if (process := aws_emulator.running(config)) is not None:
        aws_emulator.check_age(process)
        if not _is_deployed(config):  # after sam delete: what the template retains would be in the way
            aws_emulator.stop(config)
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
            aws_emulator.set_faults(config, {})  # of a run that was killed
        if payments in missing:
            with console.status("Starting the payment provider ..."):
                payments.start(config)
            console.print(f"[green]✓[/] payment provider at {config.payments_endpoint_url}")
        else:
            payments.set_faults(config.payments_url, 0)  # of a run that was killed
        stack = _deploy(config, console)
        _undo_faults(stack)
        if start_of_broker:
            with console.status("Starting RabbitMQ ..."):
                start_of_broker.result()
        if rabbitmq in missing:
            console.print(f"[green]✓[/] RabbitMQ at 127.0.0.1:{config.rabbitmq_port}")
    if not stack.rabbitmq_url:
        reason = printable(rabbitmq_install.why_left_out())
        console.print(f"[yellow]![/] The RabbitMQ intake is left out: {reason}", soft_wrap=True)
    elif broker and "RelayRabbitMqFunctionName" in stack.outputs and mq_poller.running(config) is None:
        mq_poller.start(config, stack.outputs["RelayRabbitMqFunctionName"], stack.region)
    return stack


def _is_deployed(config: LocalConfig) -> bool:
    try:
        load(config)
    except NotDeployed:
        return False
    return True


def _start_broker(config: LocalConfig) -> None:
    if rabbitmq.running(config) is None:
        rabbitmq.start(config)
    declare_queues(config.rabbitmq_url)


def _deploy(config: LocalConfig, console: Console) -> Stack:
    sources = _hash_of_sources(template_parameters(config), rabbitmq.installed())
    try:
        before = load(config)
    except NotDeployed:
        before = None
    edited = before is not None and before.code != _deployed_code(before)  # by sam sync --code
    if before is not None and before.sources == sources and not edited:
        return before
    with console.status("sam build: the functions and their layers ..."):
        _build(config)
    console.print("[green]✓[/] sam build")
    with console.status("sam deploy: the template ..."):
        run_sam(config, ["deploy", *DEPLOYED_AS_BUILT], log="sam-deploy.log")
    if edited:  # CloudFormation sees no change where the template has none
        with console.status("sam sync --code: the functions' code as it is here ..."):
            run_sam(config, ["sync", "--code"], log="sam-sync.log")
    stack = _describe(config, sources, {})
    stack = replace(stack, code=_deployed_code(stack))
    stack.secretsmanager.put_secret_value(
        SecretId=stack.outputs["PaymentSecretArn"], SecretString=config.keys.stripe_key
    )
    write_for_this_user(config.stack_file, asdict(stack))
    console.print(f"[green]✓[/] sam deploy: stack {stack.stack_name}")
    mq_poller.stop(config)  # the function that it invokes may have a new name
    return stack


def _build(config: LocalConfig) -> None:
    """Build once for all stacks of this folder: the build depends only on the sources and the interpreter."""
    with _BUILD.with_name("build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        parameters = template_parameters(config)
        sources = _hash_of_sources(parameters["PythonRuntime"], parameters["Architecture"])
        built = _ZIPPED.exists() and _BUILT_FROM.exists()
        if not built or _BUILT_FROM.read_text() != sources:
            run_sam(config, ["build"], log="sam-build.log")
            _zip()
            _BUILT_FROM.write_text(sources)


def _zip() -> None:
    """Zip the built code once for all stacks, which takes SAM five seconds in every deployment."""
    template = yaml.load((_BUILD / "template.yaml").read_text(), yaml.CSafeLoader)
    for name, resource in template["Resources"].items():
        for code in {"CodeUri", "ContentUri"} & resource.get("Properties", {}).keys():
            folder = _BUILD / resource["Properties"][code]
            resource["Properties"][code] = shutil.make_archive(str(_BUILD / name), "zip", folder)
    # SAM parses the template seven times in a deployment: a second and a half each as YAML.
    _ZIPPED.write_text(json.dumps(template, indent=1))


def _undo_faults(stack: Stack) -> None:
    """Repair the stack after a killed chaos run: functions without messages, short visibility timeouts, a wrong key."""
    lambda_, sqs, secrets = stack.lambda_, stack.sqs, stack.secretsmanager
    secret = stack.outputs.get("PaymentSecretArn")  # none on a stack without orders
    if secret and secrets.get_secret_value(SecretId=secret)["SecretString"] == payments.WRONG_KEY:
        secrets.put_secret_value(SecretId=secret, SecretString=payments.split(stack.payments_url)[0])
    for mapping in lambda_.list_event_source_mappings()["EventSourceMappings"]:
        if mapping["State"] in ("Disabled", "Disabling"):
            lambda_.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)
    for name, url in stack.outputs.items():
        if name.endswith("QueueUrl") and (before := sqs.list_queue_tags(QueueUrl=url).get("Tags", {}).get(TIMEOUT_TAG)):
            sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": before})
            sqs.untag_queue(QueueUrl=url, TagKeys=[TIMEOUT_TAG])


def look_around(config: LocalConfig, stack: Stack) -> Surroundings:
    """The services other than AWS, with those that are missing or do not answer."""
    troubles, waiting = [], {}
    if not payments.answers(stack.payments_url):
        troubles.append(f"The payment provider at {config.payments_endpoint_url} does not answer; run make up")
    if stack.rabbitmq_url:
        try:
            waiting = rabbitmq.queue_depths(config)
        except OperationsError as error:
            troubles.append(f"RabbitMQ does not answer; run make up ({error})")
        if mq_poller.running(config) is None:
            troubles.append("Nothing reads RabbitMQ: the poller is not running; run make up")
    return Surroundings(troubles, waiting)


@contextmanager
def _alone(config: LocalConfig) -> Iterator[None]:
    """Lock the stack's folder against another `make up`. Raises LaptopError if one is running."""
    config.folder.mkdir(parents=True, exist_ok=True)
    with (config.folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LaptopError("Another make is starting the laptop stack. Wait until it has finished.") from None
        yield


def down(config: LocalConfig) -> bool:
    """Stop the stack and delete its contents; returns whether anything was running."""
    servers = (web_page, mq_poller, rabbitmq, payments, aws_emulator)
    with ThreadPoolExecutor(len(servers)) as side_by_side:
        stopped = list(side_by_side.map(lambda server: server.stop(config), servers))
    config.forget_start()
    return any(stopped)


def run_sam(config: LocalConfig, arguments: Sequence[str], *, log: str | None = None, for_lambda: bool = False) -> int:
    """Run a SAM command against the laptop stack.

    Parameters
    ----------
    log:
        File name for the output; without one it goes to the terminal.
    for_lambda:
        Whether to build for Lambda's runtime instead of this machine's Python.

    Returns
    -------
    int
        Its exit code, if the output goes to the terminal.

    Raises
    ------
    LaptopError
        It failed; the message has the line of the log that explains it. Only if the output goes to a log.
    """
    environment = build_environment() | {
        "AWS_ENDPOINT_URL": config.endpoint_url,
        "AWS_ACCESS_KEY_ID": config.keys.aws_access_key_id,
        "AWS_SECRET_ACCESS_KEY": config.keys.aws_secret_access_key,
        "AWS_DEFAULT_REGION": _setting("region"),
        "SAM_CLI_TELEMETRY": "0",
        "__SAM_CLI_APP_DIR": str(config.folder / "sam-cli"),  # instead of the home folder
    }
    if for_lambda:
        del environment["DARKROOM_BUILD_FOR_THIS_MACHINE"]
    elif arguments[0] == "build":
        _BUILT_FROM.unlink(missing_ok=True)
    path = config.logs / log if log else None
    # SAM does not remove its temporary files: empty folders of every build, the layers' archives of every sync.
    with (
        tempfile.TemporaryDirectory(prefix="sam-", dir=config.folder, ignore_cleanup_errors=True) as temporary,
        path.open("wb") if path else nullcontext() as output,
    ):
        code = subprocess.run(
            [tool("sam", "sam"), *arguments] if for_lambda else sam_command(config, arguments),
            env=environment | {"TMPDIR": temporary},
            # sync has no option for where it builds, and .aws-sam/build is what sam deploy ships to AWS.
            cwd=config.folder if arguments[0] == "sync" else PROJECT,
            check=False,
            input=b"y\n" if output else None,  # sync asks
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
        ).returncode
    if path and code != 0:
        raise LaptopError(f"sam {arguments[0]} failed: {_why(path)} (full output: {path.relative_to(PROJECT)})")
    return code


def _check_rendition_set() -> None:
    """Raise now what the deployed function would raise at every start."""
    try:
        load_rendition_set(PROJECT / "functions" / "process_image" / "renditions.toml")
    except InvalidRenditionSet as error:
        raise LaptopError(str(error)) from error


def _describe(config: LocalConfig, sources: str, code: dict[str, list[str]]) -> Stack:
    stack = Stack(
        endpoint_url=config.endpoint_url,
        payments_url=config.payments_url,
        rabbitmq_url=config.rabbitmq_url if rabbitmq.installed() else "",
        region=_setting("region"),
        stack_name=_setting("stack_name"),
        credentials={
            "aws_access_key_id": config.keys.aws_access_key_id,
            "aws_secret_access_key": config.keys.aws_secret_access_key,
        },
        outputs={},
        sources=sources,
        code=code,
    )
    try:
        (description,) = stack.cloudformation.describe_stacks(StackName=stack.stack_name)["Stacks"]
    except ClientError:
        raise NotDeployed("The stack is not in the emulator any more. Deploy it again: make up") from None
    if not description.get("Outputs"):
        raise NotDeployed("The stack could not be deployed to the emulator. Deploy it again: make up")
    stack.outputs.update({o["OutputKey"]: o["OutputValue"] for o in description["Outputs"]})
    # The emulator serves the API under another path: AWS's host names do not resolve to it.
    if api := re.fullmatch(r"https://(\w+)\..*/(\w+)", stack.outputs.get("ApiUrl", "")):
        key = stack.client("apigateway").get_api_key(apiKey=stack.outputs["ApiKeyId"], includeValue=True)
        stack.outputs["ApiKey"] = key["value"]
        stack.outputs["ApiUrl"] = f"{config.endpoint_url}/_aws/execute-api/{api[1]}/{api[2]}"
    return stack


def _deployed_code(stack: Stack) -> dict[str, list[str]]:
    """The code and the layers of each function of the stack."""
    pages = stack.lambda_.get_paginator("list_functions").paginate()
    return {
        function["FunctionName"]: [function["CodeSha256"], *(layer["Arn"] for layer in function.get("Layers", []))]
        for page in pages
        for function in page["Functions"]
        if function["FunctionName"] in stack.outputs.values()
    }


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
    """The most informative line of a SAM log."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("Error", "ERROR", "make:"))]
    return (telling or lines or ["it printed nothing"])[-1]
