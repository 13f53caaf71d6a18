"""`python -m operations COMMAND`: the commands behind `make status`, `redrive`, `rerender`, `url`, `erase` and others.

They use the laptop stack without a profile, and a stack in AWS with one.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from darkroom.errors import ServiceUnavailable
from rich.console import Console
from rich.prompt import Confirm

from operations import (
    erase_command,
    parameters,
    preflight,
    rabbitmq_queues,
    redrive_command,
    rerender_command,
    smoke,
    status,
    url,
)
from operations.deployed import DeployedStack, account, in_aws, samconfig
from operations.erase import Selection
from operations.errors import AWS_ERRORS, OperationsError, reason_of
from operations.flows import FLOWS
from operations.rerender import RerenderOptions, check_bucket
from operations.terminal import printable

if TYPE_CHECKING:
    from types import FrameType

_STATUS_NEEDS = """
In AWS the profile needs cloudformation:DescribeStacks and cloudformation:ListStackResources on the stack,
sqs:GetQueueAttributes on its queues, sqs:ReceiveMessage and sqs:ChangeMessageVisibility on the dead-letter
queues, cloudwatch:DescribeAlarms and cloudwatch:GetMetricData.
"""
_REDRIVE_NEEDS = """
In AWS the profile needs cloudformation:DescribeStacks on the stack; sqs:GetQueueAttributes, sqs:ReceiveMessage,
sqs:ChangeMessageVisibility and sqs:DeleteMessage on the dead-letter queue; sqs:SendMessage on the queue the messages go
to; and for rabbitmq lambda:GetFunctionConfiguration on the relay, whose routes decide.
Nothing is lost if it is interrupted, even by kill -9: a message may arrive twice, and is processed once. After
kill -9, messages that were being read become visible again after their visibility timeout, half a minute or more.
"""
_RERENDER_NEEDS = """
Uploads are rendered again that have no record, a record of another rendition set, or lost renditions (--missing).
Ctrl-C stops sending: what is sent is finished, and the next run does the rest. Each photo is rendered once.
In AWS the profile needs cloudformation:DescribeStacks on the stack, lambda:GetFunctionConfiguration and
lambda:ListEventSourceMappings, s3:ListBucketVersions on the uploads bucket, dynamodb:BatchGetItem on the images table,
sqs:SendMessage and sqs:GetQueueAttributes on the re-render queue; with --missing s3:GetObjectTagging on the renditions;
with --inventory s3:GetObject on the report and s3:GetBucketVersioning instead of s3:ListBucketVersions.
"""
_URL_NEEDS = """
A signed address works for a quarter of an hour, for everybody who has it. In AWS the profile needs
cloudformation:DescribeStacks on the stack, dynamodb:BatchGetItem on the images table, lambda:GetFunctionConfiguration,
and s3:GetObject on the renditions, without which a signed address does not work.
"""
_ERASE_NEEDS = """
In AWS the profile needs cloudformation:DescribeStacks on the stack; s3:ListBucketVersions and s3:DeleteObjectVersion on
the uploads bucket, s3:ListBucket and s3:DeleteObject on the renditions bucket; dynamodb:Scan and dynamodb:DeleteItem on
the images and the tasks table, dynamodb:BatchGetItem on the latter; sqs:ReceiveMessage, sqs:DeleteMessage and
sqs:ChangeMessageVisibility on the results queue and the dead-letter queues of images, results and RabbitMQ;
lambda:GetFunctionConfiguration, logs:DescribeLogGroups. An interrupted run is continued by the next one.
"""
# With the project's other output, which no commit includes.
_RECEIPTS = Path(__file__).resolve().parent.parent / ".local" / "receipts"


def main() -> int:
    """Run one command; returns its exit code: 0 done, 1 something went wrong, 130 interrupted."""
    arguments = _parse()
    console = Console(highlight=False, width=None if sys.stdout.isatty() or os.environ.get("COLUMNS") else 120)
    errors = Console(stderr=True, highlight=False)
    try:
        if arguments.command == "rabbitmq-queues":
            return rabbitmq_queues.run(arguments.url, arguments.queues, console, redrive=arguments.redrive)
        if arguments.command == "preflight":
            return preflight.run(_account(arguments), preflight.plan_of(arguments.profile, _given(arguments)), console)
        stack, look_around = _reach(arguments)
        if arguments.command == "smoke":
            return smoke.run(stack, console, arguments.order)
        if arguments.command == "status":
            return status.run(stack, console, look_around, watch=arguments.watch and sys.stdout.isatty())
        if arguments.command == "url":
            return url.run(stack, arguments.key, arguments.rendition, console)
        if arguments.command == "erase":
            check_bucket(stack, arguments.bucket)
            own = stack.outputs["UploadsBucketName"]
            selection = Selection(arguments.key, arguments.prefix, arguments.bucket or own, own)
            return erase_command.run(stack, selection, _RECEIPTS, console, is_real=arguments.yes)
        asks = not _is_laptop(arguments) and sys.stdin.isatty() and not arguments.yes
        confirm = (lambda question: Confirm.ask(question, console=console)) if asks else lambda _: True
        if arguments.command == "rerender":
            options = RerenderOptions(
                arguments.prefix,
                arguments.code,
                arguments.missing,
                arguments.any_name,
                arguments.bucket,
                arguments.inventory,
            )
            return rerender_command.run(stack, options, arguments.budget, console, _ended_by_a_person(), confirm)
        if arguments.command == "set":
            configured = parameters.configured(samconfig(), stack.stack_name)
            return parameters.run(stack, arguments.assignments, console, confirm, configured)
        return redrive_command.run(
            stack,
            redrive_command.RedriveOptions(
                arguments.queue, arguments.code, arguments.limit, arguments.rate, arguments.dry_run
            ),
            console,
            _ended_by_a_person(),
            confirm=confirm,
        )
    except OperationsError as error:
        errors.print(f"[red]✗[/] {printable(str(error))}", soft_wrap=True)
    except (*AWS_ERRORS, ServiceUnavailable) as error:
        errors.print(
            f"[red]✗[/] AWS refuses the request or does not answer: {printable(reason_of(error))}",
            soft_wrap=True,
        )
    except KeyboardInterrupt:
        return 130
    return 1


def _is_laptop(arguments: argparse.Namespace) -> bool:
    return not (arguments.profile or arguments.stack or arguments.region)


def _account(arguments: argparse.Namespace) -> DeployedStack:
    return (
        _reach(arguments)[0] if _is_laptop(arguments) else account(arguments.profile, arguments.stack, arguments.region)
    )


def _given(arguments: argparse.Namespace) -> dict[str, str]:
    """The parameters that a deployment to the laptop stack sets."""
    if not _is_laptop(arguments):
        return {}
    from local.config import local_config, template_parameters

    return template_parameters(local_config())


def _reach(arguments: argparse.Namespace) -> tuple[DeployedStack, Callable[[], status.Surroundings]]:
    """Find the stack, and the function that reports on its surroundings.

    With a profile or a stack's name it is in AWS: without a profile by the credentials of the environment.
    """
    if not _is_laptop(arguments):
        return in_aws(arguments.profile, arguments.stack, arguments.region), status.Surroundings
    # Imported here: a machine that operates a stack in AWS needs nothing of the laptop stack.
    from local.config import keep_out_the_person, local_config
    from local.stack import load, look_around

    keep_out_the_person(os.environ)
    config = local_config()
    stack = load(config)
    return stack, lambda: look_around(config, stack)


def _ended_by_a_person() -> Event:
    """Make an event that Ctrl-C sets, so that work in progress finishes. A second Ctrl-C ends the command at once."""
    ended = Event()

    def end(number: int, frame: FrameType | None) -> None:
        if ended.is_set():
            signal.default_int_handler(number, frame)
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    return ended


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m operations", description="Commands for the engineer on call.")
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--profile", default="", help="AWS CLI profile; without it, the laptop stack")
    where.add_argument("--stack", default="", help="stack name in AWS; by default from samconfig.toml")
    where.add_argument("--region", default="", help="AWS region; by default the profile's")
    commands = parser.add_subparsers(dest="command", required=True)
    status_parser = commands.add_parser(
        "status", parents=[where], help="queues, dead letters by reason, alarms", epilog=_STATUS_NEEDS
    )
    status_parser.add_argument("--watch", action="store_true", help="refresh every few seconds, until Ctrl-C")
    redrive_parser = commands.add_parser(
        "redrive", parents=[where], help="move dead letters back to their source queue", epilog=_REDRIVE_NEEDS
    )
    redrive_parser.add_argument("--queue", required=True, choices=sorted(FLOWS), help="which dead letters")
    redrive_parser.add_argument(
        "--code", default="", help="only this error code, such as NotAnImage; `none` for dead letters without a code"
    )
    redrive_parser.add_argument("--limit", type=_whole, default=0, help="the most to move; by default all")
    redrive_parser.add_argument("--rate", type=_positive, default=10.0, help="messages per second; by default 10")
    redrive_parser.add_argument("--dry-run", action="store_true", help="show what would be moved, and move nothing")
    redrive_parser.add_argument("--yes", action="store_true", help="do not ask before moving anything in AWS")
    rerender_parser = commands.add_parser(
        "rerender",
        parents=[where],
        help="render older photos again",
        epilog=_RERENDER_NEEDS,
    )
    rerender_parser.add_argument("--bucket", default="", help="of ExistingUploadsBuckets; by default the stack's own")
    rerender_parser.add_argument("--prefix", default="", help="only keys that begin with this")
    rerender_parser.add_argument("--code", default="", help="only uploads that failed with this error code")
    rerender_parser.add_argument("--missing", action="store_true", help="also check that every rendition exists")
    rerender_parser.add_argument("--any-name", action="store_true", help="also uploads without an image suffix")
    rerender_parser.add_argument(
        "--inventory",
        default="",
        help="read this S3 Inventory report, s3://.../manifest.json, and do not list the bucket",
    )
    rerender_parser.add_argument("--budget", type=_positive, default=0, help="US dollars that the run may cost")
    rerender_parser.add_argument("--yes", action="store_true", help="do not ask before sending anything in AWS")
    url_parser = commands.add_parser(
        "url", parents=[where], help="print the addresses of a picture, delivered or signed", epilog=_URL_NEEDS
    )
    url_parser.add_argument("--key", required=True, help="the upload's key, as in the record")
    url_parser.add_argument("--rendition", default="", help="only the rendition of this name")
    erase_parser = commands.add_parser(
        "erase", parents=[where], help="show all that is kept of photos; with --yes remove it", epilog=_ERASE_NEEDS
    )
    which = erase_parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--key", default="", help="of one photo")
    which.add_argument("--prefix", default="", help="of all photos whose keys begin with this")
    erase_parser.add_argument("--bucket", default="", help="of ExistingUploadsBuckets; by default the stack's own")
    erase_parser.add_argument("--yes", action="store_true", help="remove it, and write a receipt")
    commands.add_parser("preflight", parents=[where], help="look at an account before a deployment")
    smoke_parser = commands.add_parser(
        "smoke", parents=[where], help="prove a deployed stack with a photo and an invalid task"
    )
    smoke_parser.add_argument(
        "--order", default="", metavar="PRODUCT", help="also an order for more of this product than there is"
    )
    set_parser = commands.add_parser(
        "set", parents=[where], help="change parameters of a deployed stack and keep all other values"
    )
    set_parser.add_argument("assignments", nargs="+", metavar="Name=value", help="such as ProcessImageConcurrency=20")
    set_parser.add_argument("--yes", action="store_true", help="do not ask before changing a stack in AWS")
    rabbitmq_queues.add_arguments(
        commands.add_parser("rabbitmq-queues", help="declare the RabbitMQ queues on a broker")
    )
    return parser.parse_args()


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to 1000")
    return number


if __name__ == "__main__":
    sys.exit(main())
