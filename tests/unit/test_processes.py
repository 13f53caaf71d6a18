from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from local.emulators.processes import Server


class Sleeper(Server):
    """A server that needs no time to start."""

    def answers(self) -> bool:
        return True


def test_a_server_that_ends_in_the_moment_before_it_is_killed_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    script = tmp_path / "server.py"
    script.write_text("import time; time.sleep(60)")
    server = Sleeper("The server", script, tmp_path / "pid", tmp_path / "log", "", seconds_to_stop=0)
    server.start(Path(sys.executable), environment={}, folder=tmp_path)

    # when
    def end_late(family: Sequence[psutil.Process], timeout: float) -> tuple[list[Any], list[psutil.Process]]:
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
            process.wait(60)
        return [], list(family)

    monkeypatch.setattr(psutil, "wait_procs", end_late)
    # then
    assert server.stop()
    assert not server.running()
    assert not (tmp_path / "pid").exists()
