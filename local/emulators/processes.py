"""The processes of the laptop stack that outlive a command: start one, find it, stop it."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from local.config import PROJECT, LaptopError

_SECONDS_TO_START = 300
# Variables that the user set for other servers must not affect ours.
_FOREIGN = ("AWS_", "PYTHON", "RABBITMQ_", "ERL_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
# Python warns of a child process without a reference; ours outlive this command on purpose.
_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Server:
    """A server in a process of its own.

    Attributes
    ----------
    name:
        Its name in messages: "The emulator".
    script:
        Its program, which identifies the process.
    pid_file, log:
        The files of its process id and its output.
    health_url:
        The URL that answers once it is up.
    clean_up:
        Removes files other than that of the process id, which are useless without the process.
    seconds_to_stop:
        How long to wait after SIGTERM before it is killed.
    """

    name: str
    script: Path
    pid_file: Path
    log: Path
    health_url: str
    clean_up: Callable[[], None] = lambda: None
    seconds_to_stop: float = 5

    def running(self) -> psutil.Process | None:
        """Find its process, or None if it is not running."""
        try:
            process = psutil.Process(int(self.pid_file.read_text()))
            return process if str(self.script) in process.cmdline() else None
        except (OSError, ValueError, psutil.Error):
            return None

    def start(
        self, python: Path | None, *, arguments: Sequence[str] = (), environment: dict[str, str], folder: Path
    ) -> None:
        """Start it and wait until it answers.

        Parameters
        ----------
        python:
            The interpreter of its environment; None if it is not a Python program.
        environment:
            Added to this process's environment, without its variables for AWS, Python or other servers.
        folder:
            Its working folder.

        Raises
        ------
        LaptopError
            It does not start.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        ours = {name: value for name, value in os.environ.items() if not name.upper().startswith(_FOREIGN)}
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [*([python] if python else []), self.script, *arguments],
                env=ours | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=folder,
                start_new_session=True,
            )
        _started.append(process)
        self.pid_file.write_text(str(process.pid))
        self._wait_until_it_answers(process)

    def answers(self) -> bool:
        """Ask whether it is up."""
        try:
            with urlopen(self.health_url, timeout=2):  # noqa: S310 # a constant address
                return True
        except (URLError, OSError):
            return False

    def stop(self) -> bool:
        """Stop it and every process that it started; returns whether it was running."""
        process = self.running()
        if process is not None:
            family = [process]
            with suppress(psutil.NoSuchProcess):  # it has just ended by itself
                family += process.children(recursive=True)
                process.terminate()
            _, alive = psutil.wait_procs(family, timeout=self.seconds_to_stop)
            for survivor in alive:
                with suppress(psutil.NoSuchProcess):  # one that ends with its parent, such as a function's
                    survivor.kill()
            psutil.wait_procs(alive, timeout=5)
            for child in _started:
                child.poll()
        self.pid_file.unlink(missing_ok=True)
        self.clean_up()
        return process is not None

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        end = monotonic() + _SECONDS_TO_START
        log = self.log.relative_to(PROJECT) if self.log.is_relative_to(PROJECT) else self.log
        while monotonic() < end:
            if process.poll() is not None:
                raise LaptopError(f"{self.name} ended at once: {_last_line(self.log)} (all of it in {log})")
            if self.answers():
                return
            sleep(0.1)
        self.stop()
        raise LaptopError(f"{self.name} did not answer within {_SECONDS_TO_START} s; see {log}")


def check_free(port: int) -> None:
    """Raise LaptopError if something listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            message = f"Port {port} is taken by another program. Stop that, or choose another port: make up PORT=4700"
            raise LaptopError(message) from None


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
