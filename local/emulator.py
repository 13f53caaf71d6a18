"""The emulator's process: start it, find it, stop it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.request import Request, urlopen

import psutil

from local.machine import PROJECT, LaptopError, Place, this_place, tool
from local.processes import Server, check_free

# What the template uses; fewer services start faster and open no further ports.
_SERVICES = (
    "apigateway,cloudcontrol,cloudformation,cloudwatch,dynamodb,events,iam,kms,lambda,logs,monitoring,"
    "s3,secretsmanager,sns,sqs,ssm,sts"
)
ACCESS_KEY_ID = "test"
SECRET_ACCESS_KEY = "test"  # noqa: S105 # the emulator's fixed administrator; it listens on the loopback address alone
_PLAIN_ADDRESS = "DARKROOM_PLAIN_ADDRESS"  # as run_emulator.py reads it
_PROGRAM = tuple(PROJECT / "local" / name for name in ("run_emulator.py", "sqs_in_json.py")) + tuple(
    (PROJECT / "local").glob("emulator_*.py")
)


def running(place: Place) -> psutil.Process | None:
    """Find the emulator of this place, or None if it is not running."""
    return _server(place).running()


def start(place: Place) -> None:
    """Start the emulator and wait until it answers.

    Raises
    ------
    LaptopError
        A port is taken, or it does not come up; says which.
    """
    for port in (place.port, place.tls_port):
        check_free(port)
    _clean_up(place)  # after one that was killed
    scratch = place.folder / "scratch"
    scratch.mkdir(parents=True)
    certificate = place.folder / "emulator.crt"
    environment = {
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
    _server(place).start(tool("emulator", "python"), environment=environment, folder=scratch)


def where_it_runs(place: Place) -> Place:
    """The same place on the port that its emulator listens on, if it runs: whoever names no port means that one."""
    process = running(place)
    port = process.environ().get(_PLAIN_ADDRESS, "").rpartition(":")[2] if process else ""
    return replace(place, port=int(port)) if port else place


def this_running_place() -> Place:
    """Read the place as `this_place` does; without PORT it is on the port that its emulator listens on."""
    place = this_place()
    return place if os.environ.get("PORT") else where_it_runs(place)


def check_port(process: psutil.Process, place: Place) -> None:
    """Raise LaptopError if the emulator listens elsewhere than the place says."""
    address = process.environ().get(_PLAIN_ADDRESS, "")
    if address != place.address:
        port = address.rpartition(":")[2]
        raise LaptopError(f"The laptop stack is already up, on port {port}. Say PORT={port}, or stop it: make down")


def check_age(process: psutil.Process, program: Iterable[Path] = _PROGRAM) -> None:
    """Raise LaptopError if the emulator's program has changed since it was started: it may lack what we rely on."""
    if any(path.stat().st_mtime > process.create_time() for path in program):
        raise LaptopError("The emulator is older than the code here. Stop it, and what is in it is gone: make down")


def stop(place: Place) -> bool:
    """Stop the emulator with every function it runs; returns whether it was running."""
    return _server(place).stop()


def function_processes(place: Place) -> list[psutil.Process]:
    """The processes that run functions now."""
    process = running(place)
    children = process.children(recursive=True) if process else []
    return [child for child in children if any(arg.endswith("_worker.py") for arg in _command(child))]


def set_faults(
    place: Place, shares: Mapping[str, Mapping[str, float]], seed: int | None = None
) -> dict[str, dict[str, int]]:
    """Let calls of the functions fail from now on; returns how many failed before, by service and kind.

    Parameters
    ----------
    shares:
        By service and kind, as ``local/emulator_faults.py`` lists them, which share of the calls; none ends it.
    seed:
        The same calls in the same order then fail in the same way.
    """
    body = json.dumps({"shares": shares, "seed": seed}).encode()
    request = Request(f"{place.endpoint_url}/_ministack/faults", body, {"Content-Type": "application/json"})  # noqa: S310
    with urlopen(request, timeout=10) as answer:  # noqa: S310 # a loopback address
        return dict(json.load(answer))


def _command(process: psutil.Process) -> list[str]:
    """How a process was called; empty for one that has just ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _server(place: Place) -> Server:
    return Server(
        name="The emulator",
        script=PROJECT / "local" / "run_emulator.py",
        pid_file=place.pid_file,
        log=place.logs / "emulator.log",
        health_url=f"{place.endpoint_url}/_ministack/health",
        clean_up=lambda: _clean_up(place),
    )


def _clean_up(place: Place) -> None:
    """Remove what is worth nothing without the process; what was deployed lives in its memory."""
    for name in ("emulator.pid", "emulator.crt", "emulator.key", "stack.json"):
        (place.folder / name).unlink(missing_ok=True)
    shutil.rmtree(place.folder / "scratch", ignore_errors=True)
