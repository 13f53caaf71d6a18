"""The deployed stack: start its servers, deploy it, and reach it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from functions.process_image.rendition_set import InvalidRenditionSet, load_rendition_set
from local import sam
from local.config import PROJECT, LaptopError, LocalConfig, template_parameters, write_for_this_user
from local.emulators import aws_emulator, mq_poller, payments, rabbitmq, rabbitmq_install, web_page
from local.emulators.processes import check_free
from operations.deployed import DeployedStack, make_client
from operations.errors import OperationsError
from operations.rabbitmq_queues import declare_queues
from operations.status import Surroundings
from operations.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

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
    sources = sam.hash_of_sources(template_parameters(config), rabbitmq.installed())
    try:
        before = load(config)
    except NotDeployed:
        before = None
    edited = before is not None and before.code != _deployed_code(before)  # by sam sync --code
    if before is not None and before.sources == sources and not edited:
        return before
    with console.status("sam build: the functions and their layers ..."):
        sam.build(config)
    console.print("[green]✓[/] sam build")
    with console.status("sam deploy: the template ..."):
        sam.run(config, ["deploy", *sam.DEPLOYED_AS_BUILT], log="sam-deploy.log")
    if edited:  # CloudFormation sees no change where the template has none
        with console.status("sam sync --code: the functions' code as it is here ..."):
            sam.run(config, ["sync", "--code"], log="sam-sync.log")
    stack = _describe(config, sources, {})
    stack = replace(stack, code=_deployed_code(stack))
    stack.secretsmanager.put_secret_value(
        SecretId=stack.outputs["PaymentSecretArn"], SecretString=config.keys.stripe_key
    )
    write_for_this_user(config.stack_file, asdict(stack))
    console.print(f"[green]✓[/] sam deploy: stack {stack.stack_name}")
    mq_poller.stop(config)  # the function that it invokes may have a new name
    return stack


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
        region=sam.setting("region"),
        stack_name=sam.setting("stack_name"),
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
