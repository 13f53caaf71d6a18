"""The emulator's process, as the laptop stack's commands see it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from signal import SIGKILL
from subprocess import PIPE, Popen
from unittest.mock import Mock

import psutil
import pytest

from local.chaos.fault_injection import kill_functions
from local.config import LaptopError
from local.emulators import aws_emulator


def _changed(program: Path, *, seconds_after_start: float) -> psutil.Process:
    """A process whose program was changed some time after its start."""
    process = psutil.Process()
    program.touch()
    os.utime(program, times=(0, process.create_time() + seconds_after_start))
    return process


def test_an_emulator_of_the_current_code_is_used(tmp_path: Path) -> None:
    program = tmp_path / "run.py"
    aws_emulator.check_age(_changed(program, seconds_after_start=-5), [program])


def test_an_emulator_of_older_code_must_be_stopped_first(tmp_path: Path) -> None:
    program = tmp_path / "run.py"
    with pytest.raises(LaptopError, match="make down"):
        aws_emulator.check_age(_changed(program, seconds_after_start=5), [program])


def test_a_killed_function_has_ended_with_all_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    # given functions of many threads, of which the first ends before the others
    code = "import threading as t; [t.Thread(target=input).start() for _ in range(200)]; print(flush=True); input()"
    for _ in range(8):
        with Popen([sys.executable, "-c", code], stdin=PIPE, stdout=PIPE) as function:  # noqa: S603
            assert function.stdout
            function.stdout.readline()
            processes = [psutil.Process(function.pid)]
            monkeypatch.setattr(aws_emulator, "function_processes", lambda *_, found=processes: found)
            # when
            killed = kill_functions(Mock())
            # then the emulator sees at once that they are gone
            assert (killed, function.poll()) == (1, -SIGKILL)
