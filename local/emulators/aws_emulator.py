"""The emulator's process: start it, find it, stop it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.request import Request, urlopen

import psutil
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.config import PROJECT, LaptopError, LocalConfig, tool
from local.emulators.docker_bridge import docker_bridge
from local.emulators.processes import Server, check_free

# The services that the template uses; fewer services start faster and open fewer ports.
_SERVICES = (
    "apigateway,cloudcontrol,cloudformation,cloudfront,cloudwatch,dynamodb,events,iam,kms,lambda,logs,monitoring,"
    "s3,secretsmanager,sns,sqs,ssm,sts"
)
_PLAIN_ADDRESS = "DARKROOM_PLAIN_ADDRESS"  # as run_ministack.py reads it
_DOCKER_ADDRESS = "DARKROOM_DOCKER_ADDRESS"
_FOLDER = PROJECT / "local" / "emulators"
_PROGRAM = tuple(_FOLDER / name for name in ("run_ministack.py", "guard.py", "sqs_in_json.py")) + tuple(
    _FOLDER.glob("ministack_*.py")
)


def running(config: LocalConfig) -> psutil.Process | None:
    """Find the emulator of this stack, or None if it is not running."""
    return _server(config).running()


def start(config: LocalConfig) -> None:
    """Start the emulator and wait until it answers.

    Raises
    ------
    LaptopError
        A port is taken, or the emulator does not start; the message says which.
    """
    for port in (config.port, config.tls_port):
        check_free(port)
    _clean_up(config)  # after one that was killed
    scratch = config.folder / "scratch"
    scratch.mkdir(parents=True)
    bridge = docker_bridge()
    environment = {
        "AUTH": "true",  # enforce IAM
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(config.tls_port),
        _PLAIN_ADDRESS: config.address,
        _DOCKER_ADDRESS: f"{bridge.address}:{config.tls_port}" if bridge else "",
        "DARKROOM_DOCKER_NETWORK": bridge.network if bridge else "",
        "USE_SSL": "1",
        "MINISTACK_SSL_CERT": str(config.certificate),
        "MINISTACK_SSL_KEY": str(config.folder / "emulator.key"),
        "AWS_CA_BUNDLE": str(config.certificate),  # for the functions, which inherit this environment
        "AWS_ACCESS_KEY_ID": config.keys.aws_access_key_id,
        "AWS_SECRET_ACCESS_KEY": config.keys.aws_secret_access_key,
        "SERVICES": _SERVICES,
        "IOT_MTLS_ENABLED": "0",  # or it listens for MQTT on every interface
        "SFTP_ENABLED": "0",
        "STATE_DIR": str(scratch),
        "TMPDIR": str(scratch),
    }
    _server(config).start(tool("emulator", "python"), environment=environment, folder=scratch)


def check_age(process: psutil.Process, program: Iterable[Path] = _PROGRAM) -> None:
    """Raise LaptopError if the emulator's program has changed since it was started."""
    if any(path.stat().st_mtime > process.create_time() for path in program):
        raise LaptopError("The emulator is older than the code here. Stop it, which deletes its contents: make down")


def stop(config: LocalConfig) -> bool:
    """Stop the emulator with every function it runs; returns whether it was running."""
    return _server(config).stop()


def function_processes(config: LocalConfig, name: str = "") -> list[psutil.Process]:
    """The processes that run functions now; only those of one function if it is named."""
    process = running(config)
    children = process.children(recursive=True) if process else []
    return [child for child in children if any(name in a and a.endswith("_worker.py") for a in _command(child))]


def set_faults(
    config: LocalConfig, shares: Mapping[str, Mapping[str, float]], seed: int | None = None
) -> dict[str, dict[str, int]]:
    """Make a share of the functions' calls fail; returns how many failed before, by service and kind.

    Parameters
    ----------
    shares:
        Share of the calls by service and kind, as ``ministack_faults.py`` lists them; empty ends the faults.
    seed:
        With the same seed, the same sequence of calls fails in the same way.
    """
    body = json.dumps({"shares": shares, "seed": seed}).encode()
    url, keys = f"{config.endpoint_url}/_ministack/faults", config.keys
    signed = AWSRequest("POST", url, {"Content-Type": "application/json"}, body)
    credentials = Credentials(keys.aws_access_key_id, keys.aws_secret_access_key)
    SigV4Auth(credentials, "ministack", "eu-central-1").add_auth(signed)
    request = Request(url, body, dict(signed.headers.items()))  # noqa: S310
    with urlopen(request, timeout=60) as answer:  # noqa: S310 # a loopback address
        return dict(json.load(answer))


def _command(process: psutil.Process) -> list[str]:
    """The command line of a process; empty if it has just ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _server(config: LocalConfig) -> Server:
    return Server(
        name="The emulator",
        script=PROJECT / "local" / "emulators" / "run_ministack.py",
        pid_file=config.pid_file,
        log=config.logs / "emulator.log",
        health_url=f"{config.endpoint_url}/_ministack/health",
        clean_up=lambda: _clean_up(config),
        seconds_to_stop=0,  # all it has is in its memory, and it does not end by itself within ten seconds
    )


def _clean_up(config: LocalConfig) -> None:
    """Remove the files that are useless without the process, whose memory holds the deployed stack."""
    for file in (config.pid_file, config.certificate, config.folder / "emulator.key", config.stack_file):
        file.unlink(missing_ok=True)
    shutil.rmtree(config.folder / "scratch", ignore_errors=True)
