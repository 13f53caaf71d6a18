"""`make set`: change parameters of a deployed stack, and keep its template and every other value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, WaiterError
from darkroom.aws_faults import error_code
from rich.console import Console
from rich.table import Table

from operations.deployed import DeployedStack
from operations.errors import OperationsError
from operations.terminal import printable

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import ParameterTypeDef

_ASSIGNMENT = re.compile(r"([A-Za-z0-9]+)=(.*)", re.DOTALL)
# What the template needs: it creates IAM roles, and SAM's transform and AWS::Include make of it what is deployed.
_CAPABILITIES: Any = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
_POLL_SECONDS, _MOST_POLLS = 5, 720


@dataclass(frozen=True)
class Change:
    """One parameter's change: its name, its value now and its value to come."""

    name: str
    before: str
    after: str


def parse_assignments(texts: Sequence[str]) -> dict[str, str]:
    """Read ``Name=value`` texts; returns the values by name. Raises OperationsError for anything else."""
    found = {}
    for text in texts:
        match = _ASSIGNMENT.fullmatch(text)
        if not match:
            raise OperationsError(f"{text!r} is not of the form Name=value, such as ProcessImageConcurrency=20.")
        found[match[1]] = match[2]
    return found


def configured(samconfig: Mapping[str, Any], stack_name: str) -> dict[str, str]:
    """The parameter values that samconfig.toml gives the stack of this name: the next `sam deploy` sets them again."""
    values: dict[str, str] = {}
    for environment in samconfig.values():
        if isinstance(environment, dict) and environment["global"]["parameters"].get("stack_name") == stack_name:
            overrides = environment.get("deploy", {}).get("parameters", {}).get("parameter_overrides", [])
            values |= parse_assignments(overrides)
    return values


def run(
    stack: DeployedStack,
    assignments: Sequence[str],
    console: Console,
    confirm: Callable[[str], bool],
    configured: Mapping[str, str],
) -> int:
    """Show what changes, ask, update the stack and wait; returns the exit code.

    Parameters
    ----------
    assignments:
        ``Name=value``, at least one.
    confirm:
        Asks the person a question.
    configured:
        The values that samconfig.toml gives for this stack: the next `sam deploy` sets them again.

    Raises
    ------
    OperationsError
        A name or value is wrong, or CloudFormation rolled the update back.
    ClientError, BotoCoreError
        AWS refuses, or does not answer.
    """
    wanted = parse_assignments(assignments)
    (description,) = stack.cloudformation.describe_stacks(StackName=stack.stack_name)["Stacks"]
    now = {p["ParameterKey"]: p.get("ParameterValue", "") for p in description.get("Parameters", [])}
    if unknown := sorted(wanted.keys() - now.keys()):
        raise OperationsError(f"{stack.stack_name} has no parameter {unknown[0]}. It has: {', '.join(sorted(now))}.")
    if wanted.get("CreateRabbitMqBroker") == "false" and now["CreateRabbitMqBroker"] == "true":
        raise OperationsError(
            "The stack created its RabbitMQ broker, and CreateRabbitMqBroker=false would take it out of the stack: it"
            " would run on, and cost by the hour. docs/rabbitmq.md says how to remove a broker."
        )
    changes = [Change(name, now[name], value) for name, value in sorted(wanted.items()) if now[name] != value]
    if not changes:
        console.print("Nothing to change: the stack has these values.")
        return 0
    console.print(_table(changes))
    if not confirm(f"Change {printable(stack.stack_name)} in {stack.region}?"):
        console.print("Nothing was changed.")
        return 0
    _update(stack, now, wanted, console)
    console.print(f"[green]✓[/] {printable(stack.stack_name)} is updated.")
    for change in changes:
        if change.name in configured and configured[change.name] != change.after:
            console.print(
                f"[yellow]![/] samconfig.toml says {change.name}={printable(configured[change.name])}, and the next sam"
                " deploy sets that again. To keep the new value, write it there too."
            )
    return 0


def _update(stack: DeployedStack, now: Mapping[str, str], wanted: Mapping[str, str], console: Console) -> None:
    parameters: list[ParameterTypeDef] = [
        {"ParameterKey": name, "ParameterValue": wanted[name]}
        if name in wanted
        else {"ParameterKey": name, "UsePreviousValue": True}
        for name in now
    ]
    try:
        stack.cloudformation.update_stack(
            StackName=stack.stack_name,
            UsePreviousTemplate=True,
            Parameters=parameters,
            Capabilities=_CAPABILITIES,
        )
    except ClientError as error:
        if error_code(error) == "ValidationError":  # a value that the template does not allow, or a busy stack
            raise OperationsError(f"CloudFormation refuses: {error.response['Error'].get('Message', error)}") from error
        raise
    with console.status("CloudFormation updates the stack ..."):
        try:
            stack.cloudformation.get_waiter("stack_update_complete").wait(
                StackName=stack.stack_name, WaiterConfig={"Delay": _POLL_SECONDS, "MaxAttempts": _MOST_POLLS}
            )
        except WaiterError as error:
            raise OperationsError(
                f"The update did not succeed; CloudFormation keeps the values before. {_why(stack)}"
            ) from error


def _why(stack: DeployedStack) -> str:
    """The first failure of the stack's last events, newest update first."""
    events = stack.cloudformation.describe_stack_events(StackName=stack.stack_name)["StackEvents"]
    failed = [e for e in events if e.get("ResourceStatus", "").endswith("FAILED")]
    return f"{failed[-1]['LogicalResourceId']}: {failed[-1].get('ResourceStatusReason', '')}" if failed else ""


def _table(changes: Sequence[Change]) -> Table:
    table = Table(header_style="bold")
    for column in ("parameter", "now", "new"):
        table.add_column(column, overflow="fold")
    for change in changes:
        table.add_row(change.name, printable(change.before) or "(empty)", printable(change.after) or "(empty)")
    return table
