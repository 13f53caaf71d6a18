"""SAM's commands against a laptop stack, and `make up` after `sam delete` and after a kill."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict

import pytest
from rich.console import Console

from local import sam
from local.config import LaptopError, LocalConfig, write_for_this_user
from local.emulators import aws_emulator
from local.stack import Stack, load, up


@pytest.mark.parametrize(
    "command",
    [
        ["logs"],
        ["logs", "--name", "ProcessOrderFunction"],
        ["list", "stack-outputs", "--stack-name", "darkroom-laptop"],
    ],
)
def test_sam_commands_reach_the_stack(stack: Stack, config: LocalConfig, command: list[str]) -> None:
    assert sam.run(config, command) == 0


def test_a_killed_emulator_and_a_deleted_stack_are_replaced(
    stack: Stack, make_config: Callable[[str], LocalConfig]
) -> None:
    config, console = make_config("test-killed"), Console(file=io.StringIO())
    # given what an emulator leaves that is killed: its files, and the file of a stack that is gone
    aws_emulator.start(config)
    write_for_this_user(config.stack_file, asdict(stack))
    process = aws_emulator.running(config)
    assert process is not None
    process.kill()
    process.wait(60)
    # then the stack comes up, with the names that events/ has
    first = up(config, console, broker=False)
    assert first.outputs["UploadsBucketName"] == stack.outputs["UploadsBucketName"]
    assert first.s3.head_bucket(Bucket=first.outputs["UploadsBucketName"])
    # when the stack is deleted, of which the template retains a bucket and tables
    assert sam.run(config, ["delete", "--no-prompts"]) == 0
    with pytest.raises(LaptopError, match="Deploy it again: make up"):
        load(config)
    second = up(config, console, broker=False)
    assert second.s3.head_bucket(Bucket=second.outputs["RenditionsBucketName"])
