"""The emulator's process, as the laptop stack's commands see it."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from local.config import LaptopError
from local.emulators import aws_emulator


def _changed(program: Path, *, seconds_after_start: float) -> psutil.Process:
    """A process, and its program changed so long after it was started."""
    process = psutil.Process()
    program.touch()
    os.utime(program, times=(0, process.create_time() + seconds_after_start))
    return process


def test_an_emulator_of_the_code_that_stands_here_is_used(tmp_path: Path) -> None:
    program = tmp_path / "run.py"
    aws_emulator.check_age(_changed(program, seconds_after_start=-5), [program])


def test_an_emulator_of_older_code_has_to_go_first(tmp_path: Path) -> None:
    program = tmp_path / "run.py"
    with pytest.raises(LaptopError, match="make down"):
        aws_emulator.check_age(_changed(program, seconds_after_start=5), [program])
