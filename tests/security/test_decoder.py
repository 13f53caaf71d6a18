"""An attacker whose file has taken its decoder over: every way out of the process fails."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import NoReturn

import pytest

from functions.process_image import sandbox

_FILTERED = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
_NOBODY = 65534
_LIBC = ctypes.CDLL(None, use_errno=True)
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def _in_a_fork(attack: Callable[[], object]) -> str:
    """Run an attack in a process of its own, inside the sandbox; returns the name of what stopped it, or "got out"."""
    ours, theirs = os.pipe()
    process = os.fork()
    if process == 0:
        _attack(attack, theirs)
    os.close(theirs)
    with os.fdopen(ours) as told:
        outcome = told.read()
    _, status = os.waitpid(process, 0)
    return outcome or f"ended with {os.waitstatus_to_exitcode(status)}"


def _attack(attack: Callable[[], object], told: int) -> NoReturn:
    outcome = "got out"
    try:
        sandbox.enter(keep=told)
        attack()
    except BaseException as stopped:  # noqa: BLE001
        outcome = type(stopped).__name__
    os.write(told, outcome.encode())
    os._exit(0)


def _call(name: str, *arguments: object) -> None:
    """Call the C library as injected code does."""
    if getattr(_LIBC, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _open(path: Path, flags: int) -> None:
    os.close(os.open(path, flags))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "renditions.toml"
    path.write_text("mine")
    return path


@pytest.mark.skipif(not _FILTERED, reason="Only Linux on x86_64 and arm64 filters system calls.")
class TestSystemCalls:
    @pytest.mark.parametrize("address", [("127.0.0.1", 9001), ("169.254.169.254", 80), ("8.8.8.8", 53)])
    @pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
    def test_it_connects_to_nothing(self, address: tuple[str, int], kind: socket.SocketKind) -> None:
        assert _in_a_fork(lambda: socket.socket(socket.AF_INET, kind).connect(address)) == "PermissionError"

    @pytest.mark.parametrize("family", [socket.AF_INET6, socket.AF_UNIX])
    def test_it_makes_no_socket_of_any_kind(self, family: socket.AddressFamily) -> None:
        assert _in_a_fork(lambda: socket.socket(family)) == "PermissionError"

    def test_it_still_reads(self, secret: Path) -> None:
        """As an image library does with a profile: this is a list of what is denied."""
        assert _in_a_fork(lambda: _open(secret, os.O_RDONLY)) == "got out"

    @pytest.mark.parametrize(
        "start",
        [
            lambda: os.execv("/bin/sh", ["sh", "-c", "true"]),  # noqa: S606
            lambda: os.posix_spawn("/bin/sh", ["sh", "-c", "true"], {}),
            os.fork,
        ],
        ids=["exec", "spawn", "fork"],
    )
    def test_it_starts_no_program_and_no_process(self, start: Callable[[], object]) -> None:
        assert _in_a_fork(start) == "PermissionError"

    def test_it_can_signal_only_itself(self) -> None:
        parent = os.getpid()
        for target in (parent, 0, -1, 1):
            assert _in_a_fork(lambda target=target: os.kill(target, 0)) == "PermissionError"  # type: ignore[misc]
        assert _in_a_fork(lambda: os.kill(os.getpid(), signal.SIGSEGV)) == f"ended with {-signal.SIGSEGV}"
        assert _in_a_fork(os.abort) == f"ended with {-signal.SIGABRT}"

    def test_it_reads_no_other_process(self) -> None:
        parent = os.getpid()
        attach = 16
        assert _in_a_fork(lambda: _call("ptrace", attach, parent, None, None)) == "PermissionError"
        assert _in_a_fork(lambda: _call("process_vm_readv", parent, None, 0, None, 0, 0)) == "PermissionError"
        assert _in_a_fork(lambda: _call("prlimit", parent, 0, None, None)) == "PermissionError"

    @pytest.mark.parametrize("number", [425, 426, 427, 434, 438], ids=str)
    def test_it_does_not_get_around_the_filter(self, number: int) -> None:
        assert _in_a_fork(lambda: _call("syscall", number, 1, None)) == "PermissionError"

    def test_it_does_not_lift_the_filter(self) -> None:
        def again() -> None:
            _call("prctl", 22, 0, None, 0, 0)

        assert _in_a_fork(again) in ("OSError", "PermissionError")

    def test_threads_still_start(self) -> None:
        from threading import Thread

        def start() -> None:
            thread = Thread(target=int)
            thread.start()
            thread.join()

        assert _in_a_fork(start) == "got out"


def test_it_has_only_its_own_descriptors(secret: Path) -> None:
    with secret.open() as file:
        number = file.fileno()
        assert _in_a_fork(lambda: os.read(number, 1)) == "OSError"


def test_it_has_few_descriptors(secret: Path) -> None:
    def many() -> None:
        for _ in range(100):
            os.open(secret, os.O_RDONLY)

    assert _in_a_fork(many) == "OSError"


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux shows processes in /proc.")
@pytest.mark.parametrize("name", ["environ", "mem", "maps", "fd/0"])
def test_it_does_not_read_the_functions_environment_or_memory(name: str) -> None:
    """Of a function that is hidden; without that it would, which this test checks first."""
    told, telling = os.pipe()
    process = os.fork()
    if process == 0:
        _spy(name, telling)
    os.close(telling)
    with os.fdopen(told) as outcomes:
        assert json.loads(outcomes.read()) == {"before": "read", "hidden": "PermissionError"}
    os.waitpid(process, 0)


def _spy(name: str, telling: int) -> NoReturn:
    """Be a function, and start a process of the same user that looks at it: before it is hidden, and after."""
    if os.getuid() == 0:  # whom nothing is hidden from
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    _LIBC.prctl(4, 1, 0, 0, 0)
    outcomes = {}
    for state in ("before", "hidden"):
        if state == "hidden":
            sandbox.hide()
        function, (ours, theirs) = os.getpid(), os.pipe()
        if os.fork() == 0:
            try:
                path = Path(f"/proc/{function}/{name}")
                path.stat() if name.startswith("fd/") else _open(path, os.O_RDONLY)
                os.write(theirs, b"read")
            except OSError as refused:
                os.write(theirs, type(refused).__name__.encode())
            os._exit(0)
        os.close(theirs)
        outcomes[state] = os.read(ours, 100).decode()
    os.write(telling, json.dumps(outcomes).encode())
    os._exit(0)


def test_it_takes_less_than_a_millisecond_of_cpu_time() -> None:
    def attempt() -> float:
        told, telling = os.pipe()
        process = os.fork()
        if process == 0:
            begun = process_time()
            sandbox.enter(keep=telling)
            os.write(telling, str(process_time() - begun).encode())
            os._exit(0)
        os.close(telling)
        with os.fdopen(told) as seconds:
            took = float(seconds.read())
        os.waitpid(process, 0)
        return took

    assert min(attempt() for _ in range(20)) < 0.001
