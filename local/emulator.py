"""The emulator's process: start it, find it, stop it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from time import monotonic, sleep
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from local.machine import PROJECT, LaptopError, Place, tool

# What the template uses; fewer services start faster and open no further ports.
_SERVICES = (
    "apigateway,cloudcontrol,cloudformation,cloudwatch,dynamodb,events,iam,kms,lambda,logs,monitoring,"
    "s3,secretsmanager,sns,sqs,ssm,sts"
)
ACCESS_KEY_ID = "test"
SECRET_ACCESS_KEY = "test"  # noqa: S105 # the emulator's fixed administrator; it listens on the loopback address alone
_PLAIN_ADDRESS = "DARKROOM_PLAIN_ADDRESS"  # as run_emulator.py reads it
_SECONDS_TO_START = 60
# Python warns of a child process that nobody holds any more; ours is meant to outlive us.
_started: list[subprocess.Popen[bytes]] = []


def running(place: Place) -> psutil.Process | None:
    """Find the emulator of this place, or None if it is not running."""
    try:
        process = psutil.Process(int(place.pid_file.read_text()))
        return process if _script() in " ".join(process.cmdline()) else None
    except (OSError, ValueError, psutil.Error):
        return None


def start(place: Place) -> None:
    """Start the emulator and wait until it answers.

    Raises
    ------
    LaptopError
        A port is taken, or it does not come up; says which.
    """
    for port in (place.port, place.tls_port):
        _check_free(port)
    _clean_up(place)  # after one that was killed
    place.logs.mkdir(parents=True, exist_ok=True)
    scratch = place.folder / "scratch"
    scratch.mkdir()
    certificate = place.folder / "emulator.crt"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))} | {
        "AUTH": "true",  # enforce IAM
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(place.tls_port),
        _PLAIN_ADDRESS: place.address,
        "USE_SSL": "1",
        "MINISTACK_SSL_CERT": str(certificate),
        "MINISTACK_SSL_KEY": str(place.folder / "emulator.key"),
        "AWS_CA_BUNDLE": str(certificate),  # for the functions, which inherit this environment
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "SERVICES": _SERVICES,
        "IOT_MTLS_ENABLED": "0",  # or it listens for MQTT on every interface
        "SFTP_ENABLED": "0",
        "STATE_DIR": str(scratch),
        "TMPDIR": str(scratch),
    }
    with (place.logs / "emulator.log").open("wb") as log:
        process = subprocess.Popen(
            [tool("emulator", "python"), _script()],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=scratch,
            start_new_session=True,
        )
    _started.append(process)
    place.pid_file.write_text(str(process.pid))
    _wait_until_it_answers(place, process)


def check_port(process: psutil.Process, place: Place) -> None:
    """Raise LaptopError if the emulator listens elsewhere than the place says."""
    address = process.environ().get(_PLAIN_ADDRESS, "")
    if address != place.address:
        port = address.rpartition(":")[2]
        raise LaptopError(f"The laptop stack is already up, on port {port}. Say PORT={port}, or stop it: make down")


def stop(place: Place) -> bool:
    """Stop the emulator with every function it runs; returns whether it was running."""
    process = running(place)
    if process is not None:
        family = [process, *process.children(recursive=True)]
        process.terminate()
        _, alive = psutil.wait_procs(family, timeout=5)
        for survivor in alive:
            survivor.kill()
        psutil.wait_procs(alive, timeout=5)
    _clean_up(place)
    return process is not None


def function_processes(place: Place) -> list[psutil.Process]:
    """The processes that run functions now."""
    process = running(place)
    children = process.children(recursive=True) if process else []
    return [child for child in children if any(arg.endswith("_worker.py") for arg in child.cmdline())]


def _clean_up(place: Place) -> None:
    """Remove what is worth nothing without the process; what was deployed lives in its memory."""
    for name in ("emulator.pid", "emulator.crt", "emulator.key", "stack.json"):
        (place.folder / name).unlink(missing_ok=True)
    shutil.rmtree(place.folder / "scratch", ignore_errors=True)


def _script() -> str:
    return str(PROJECT / "local" / "run_emulator.py")


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            message = f"Port {port} is taken by another program. Stop that, or choose another port: make up PORT=4700"
            raise LaptopError(message) from None


def _wait_until_it_answers(place: Place, process: subprocess.Popen[bytes]) -> None:
    end = monotonic() + _SECONDS_TO_START
    log = (place.logs / "emulator.log").relative_to(PROJECT)
    while monotonic() < end:
        if process.poll() is not None:
            said = _last_line(place.logs / "emulator.log")
            raise LaptopError(f"The emulator ended at once: {said} (all of it in {log})")
        try:
            with urlopen(f"{place.endpoint_url}/_ministack/health", timeout=2):  # noqa: S310 # a constant address
                return
        except (URLError, OSError):
            sleep(0.1)
    stop(place)
    raise LaptopError(f"The emulator did not answer within {_SECONDS_TO_START} s; see {log}")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
