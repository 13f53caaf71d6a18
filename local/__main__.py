"""`python -m local COMMAND`: the commands behind `make up`, `demo`, `chaos`, `down` and `sam`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from botocore.exceptions import ConnectionClosedError, EndpointConnectionError
from rich.console import Console

from local import local_invoke, sam, sample_events, stack
from local.chaos import command as chaos
from local.config import keep_out_the_person, local_config
from local.demo import command as demo
from operations.errors import OperationsError
from operations.terminal import printable


def main() -> int:
    """Run one command; returns its exit code."""
    arguments = _parse()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that injected faults are removed on exit
    # A pipe has no width.
    console = Console(highlight=False, width=None if sys.stdout.isatty() or os.environ.get("COLUMNS") else 120)
    foreign = keep_out_the_person(os.environ)
    try:
        config = local_config()
        match arguments.command:
            case "up":
                deployed = stack.up(config, console)
                sample_events.provide(deployed)
                local_invoke.prepare(config, deployed, console)
                console.print(f"The laptop stack is up; {config.stack_file} has its address and credentials.")
                console.print(f"Put photos into bucket {deployed.outputs['UploadsBucketName']}, or run: make demo")
                return 0
            case "down":
                local_invoke.remove(config)
                console.print("The laptop stack is stopped." if stack.down(config) else "There was nothing to stop.")
                return 0
            case "env":
                print("\n".join(stack.environment_of(stack.load(config), foreign)))
                return 0
            case "demo":
                return demo.run(config, console, arguments.photos)
            case "chaos":
                return chaos.run(
                    config, console, arguments.flow, arguments.items, with_mistakes=not arguments.without_mistakes
                )
            case "invoke":
                return sample_events.invoke(stack.load(config), console, arguments.event)
            case "sam":
                stack.load(config)
                return sam.run(config, arguments.arguments)
    except OperationsError as error:
        Console(stderr=True, highlight=False).print(f"[red]✗[/] {printable(str(error))}", soft_wrap=True)
        return 1
    except (EndpointConnectionError, ConnectionClosedError):
        print("The laptop stack stopped in the meantime. Start it again: make up", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 2


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local", description="The laptop stack.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start the emulators and deploy the template")
    commands.add_parser("down", help="stop the stack and delete its contents")
    commands.add_parser("env", help="print the stack's address and outputs, for eval in a shell")
    demo_parser = commands.add_parser("demo", help="process photos, orders and messages, and write a report page")
    demo_parser.add_argument("--photos", type=Path, help="a folder of your own photos")
    chaos_parser = commands.add_parser("chaos", help="run all flows while functions die and services fail, then audit")
    chaos_parser.add_argument("--flow", choices=chaos.CHOICES, default="all")
    chaos_parser.add_argument("--items", type=_positive, default=200)
    chaos_parser.add_argument("--without-mistakes", action="store_true", help="no operator who makes mistakes")
    invoke_parser = commands.add_parser("invoke", help="a deployed function with an event of events/, without Docker")
    invoke_parser.add_argument("event", type=Path, help="a file, such as events/s3.json")
    sam_parser = commands.add_parser("sam", help="run a SAM command against the laptop stack")
    sam_parser.add_argument("arguments", nargs="+")
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
