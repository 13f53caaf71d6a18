"""An attacker whose file has taken over its decoder: every attempt to leave the process fails."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import platform
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from time import time
from typing import NoReturn

import pytest
from darkroom.deadline import Deadline
from darkroom.errors import NotAnImage

from functions.process_image import sandbox
from functions.process_image.admission import Admission
from functions.process_image.photo import Limits
from functions.process_image.render_server import RenderServer
from functions.process_image.rendition_set import RenditionSpec, rendition_set_of

_COLUMN = 1 if platform.machine() == "aarch64" else 0
_FILTERED = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
_NOBODY = 65534
_LIBC = ctypes.CDLL(None, use_errno=True)
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def _in_a_fork(attack: Callable[[], object], first: Callable[[], object] = int) -> str:
    """Run an attack in a process of its own, inside the sandbox; returns the name of what stopped it, or "got out".

    ``first`` runs before the sandbox is there.
    """
    ours, theirs = os.pipe()
    process = os.fork()
    if process == 0:
        _attack(attack, theirs, first)
    os.close(theirs)
    with os.fdopen(ours) as told:
        outcome = told.read()
    _, status = os.waitpid(process, 0)
    return outcome or f"ended with {os.waitstatus_to_exitcode(status)}"


def _attack(attack: Callable[[], object], told: int, first: Callable[[], object]) -> NoReturn:
    outcome = "got out"
    try:
        first()
        sandbox.drop_capabilities()
        sandbox.enter(keep=told)
        attack()
    except BaseException as stopped:  # noqa: BLE001
        outcome = type(stopped).__name__
    os.write(told, outcome.encode())
    os._exit(0)


def _call(name: str, *arguments: object) -> None:
    """Call the C library as injected code would."""
    if getattr(_LIBC, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _system_call(call: tuple[str, int | None, int | None], *arguments: int) -> None:
    """Call the kernel itself, by the number of this machine."""
    number = call[1:][_COLUMN]
    assert number is not None
    _call("syscall", ctypes.c_long(number), *map(ctypes.c_long, arguments))


def _open(path: Path | str, flags: int) -> None:
    os.close(os.open(path, flags))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "renditions.toml"
    path.write_text("mine")
    return path


@pytest.fixture
def runtime_api() -> Iterator[socket.socket]:
    """A server that hands out work, as the one of Lambda does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


_CHANGES: dict[str, Callable[[Path], object]] = {
    "delete it": Path.unlink,
    "empty it": lambda path: os.truncate(path, 0),
    "rename it": lambda path: path.rename(path.with_suffix(".other")),
    "lay another name on it": lambda path: path.with_suffix(".link").hardlink_to(path),
    "lay a link next to it": lambda path: path.with_suffix(".link").symlink_to(path),
    "make it executable": lambda path: path.chmod(0o777),
    "give it away": lambda path: os.chown(path, -1, os.getgid()),
    "make it old": lambda path: os.utime(path, (0, 0)),
    "make a folder": lambda path: path.with_suffix(".folder").mkdir(),
    "make a pipe": lambda path: os.mkfifo(path.with_suffix(".pipe")),
    "delete its folder": lambda path: path.parent.rmdir(),
}


@pytest.mark.skipif(not _FILTERED, reason="Only Linux on x86_64 and arm64 filters system calls.")
class TestSystemCalls:
    @pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
    def test_it_does_not_reach_the_runtime_api(self, runtime_api: socket.socket, kind: socket.SocketKind) -> None:
        address = runtime_api.getsockname()
        assert _in_a_fork(lambda: socket.socket(socket.AF_INET, kind).connect(address)) == "PermissionError"
        with pytest.raises(BlockingIOError):
            runtime_api.accept()

    @pytest.mark.parametrize("family", [socket.AF_INET6, socket.AF_UNIX])
    def test_it_makes_no_socket_of_any_kind(self, family: socket.AddressFamily) -> None:
        assert _in_a_fork(lambda: socket.socket(family)) == "PermissionError"

    def test_it_sends_no_datagram_from_one_of_a_pair(self) -> None:
        """Such a socket needs no connection: a datagram can have the address of any other."""
        assert _in_a_fork(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)) == "PermissionError"

    @pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREAT | os.O_TRUNC])
    def test_it_opens_no_file(self, secret: Path, flags: int) -> None:
        assert _in_a_fork(lambda: _open(secret, flags)) == "PermissionError"
        assert secret.read_text() == "mine"

    @pytest.mark.parametrize("name", ["environ", "mem", "maps", "cmdline", "root", "task"])
    def test_it_reads_nothing_of_another_process(self, name: str) -> None:
        parent = os.getpid()
        assert _in_a_fork(lambda: _open(f"/proc/{parent}/{name}", os.O_RDONLY)) == "PermissionError"

    @pytest.mark.parametrize("change", _CHANGES)
    def test_it_changes_no_file_without_opening_it(self, secret: Path, change: str) -> None:
        before = secret.stat()
        assert _in_a_fork(lambda: _CHANGES[change](secret)) == "PermissionError"
        after = secret.stat()
        assert (after.st_mode, after.st_mtime, after.st_nlink) == (before.st_mode, before.st_mtime, before.st_nlink)
        assert list(secret.parent.iterdir()) == [secret]

    @pytest.mark.parametrize(
        "start",
        [
            lambda: os.execv("/bin/sh", ["sh", "-c", "true"]),  # noqa: S606
            lambda: os.posix_spawn("/bin/sh", ["sh", "-c", "true"], {}),
            lambda: os.execve(1, ["sh", "-c", "true"], {}),  # noqa: S606
            lambda: os.memfd_create("program"),
            os.fork,
        ],
        ids=["exec", "spawn", "exec of a descriptor", "a program in memory", "fork"],
    )
    def test_it_starts_no_program_and_no_process(self, start: Callable[[], object]) -> None:
        assert _in_a_fork(start) == "PermissionError"

    def test_it_starts_no_process_by_newer_or_bare_calls(self) -> None:
        child_ended = signal.SIGCHLD
        assert _in_a_fork(lambda: _system_call(sandbox._CLONE, child_ended, 0, 0, 0, 0)) == "PermissionError"
        assert _in_a_fork(lambda: _system_call(sandbox._CLONE3, 0, 0)) == "OSError"

    def test_it_can_signal_only_itself(self) -> None:
        parent = os.getpid()
        for target in (parent, 0, -1, 1):
            assert _in_a_fork(lambda target=target: os.kill(target, 0)) == "PermissionError"  # type: ignore[misc]
        assert _in_a_fork(lambda: os.kill(os.getpid(), signal.SIGSEGV)) == f"ended with {-signal.SIGSEGV}"
        assert _in_a_fork(os.abort) == f"ended with {-signal.SIGABRT}"

    @pytest.mark.parametrize("command", [8, 10, 15], ids=["F_SETOWN", "F_SETSIG", "F_SETOWN_EX"])
    def test_it_has_nobody_killed_by_the_kernel(self, command: int) -> None:
        """A descriptor can send any signal to another process when something can be read from it."""
        assert _in_a_fork(lambda: fcntl.fcntl(1, command, os.getppid())) == "PermissionError"

    def test_it_reads_no_other_process(self) -> None:
        parent = os.getpid()
        attach = 16
        assert _in_a_fork(lambda: _call("ptrace", attach, parent, None, None)) == "PermissionError"
        assert _in_a_fork(lambda: _call("process_vm_readv", parent, None, 0, None, 0, 0)) == "PermissionError"
        assert _in_a_fork(lambda: _call("prlimit", parent, 0, None, None)) == "PermissionError"

    @pytest.mark.parametrize("option", [1, 4], ids=["PR_SET_PDEATHSIG", "PR_SET_DUMPABLE"])
    def test_it_ends_with_its_server_and_stays_hidden(self, option: int) -> None:
        assert _in_a_fork(lambda: _call("prctl", option, 1, 0, 0, 0)) == "PermissionError"

    @pytest.mark.parametrize("name", [call[0] for call in sandbox._NEVER if call[1:][_COLUMN] is not None])
    def test_no_call_of_the_list_reaches_the_kernel(self, name: str) -> None:
        (call,) = (call for call in sandbox._NEVER if call[0] == name)
        assert _in_a_fork(lambda: _system_call(call, -1, -1, -1, -1, -1, -1)) == "PermissionError"

    @pytest.mark.parametrize("number", [451, 469, 512, 547, 0x40000002], ids=hex)
    def test_no_call_that_the_list_cannot_know_does(self, number: int) -> None:
        assert _in_a_fork(lambda: _system_call(("unknown", number, number), -1, -1, -1, -1, -1, -1)) == "OSError"

    @pytest.mark.parametrize(
        "attack",
        [
            lambda: _call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
            lambda: _call("umount2", b"/proc", 0),
            lambda: os.chroot("/tmp"),  # noqa: S108
            lambda: _call("swapoff", b"/dev/null"),
            lambda: _call("sethostname", b"owned", 5),
        ],
        ids=["mount", "unmount", "another root", "swap", "name"],
    )
    def test_the_superuser_is_none(self, attack: Callable[[], object]) -> None:
        assert _in_a_fork(attack) == "PermissionError"

    def test_it_does_not_lift_the_filter(self) -> None:
        def again() -> None:
            _call("prctl", 22, 0, None, 0, 0)

        assert _in_a_fork(again) in ("OSError", "PermissionError")

    def test_threads_still_start(self) -> None:
        assert _in_a_fork(_start_a_thread) == "got out"


_HOSTILE = """
import ctypes, json, os, socket, struct
import functions.process_image.processing
from darkroom.errors import NotAnImage

identify = functions.process_image.processing.identify

def take_over(data, limits):
    if data != b"a":  # the server's own picture
        return identify(data, limits)
    c, capabilities = ctypes.CDLL(None), ctypes.create_string_buffer(24)
    c.capget(struct.pack("Ii", 0x20080522, 0), capabilities)
    attempts = {
        "a file": lambda: open("/etc/hostname"),
        "its server's environment": lambda: open(f"/proc/{os.getppid()}/environ"),
        "its server's life": lambda: os.kill(os.getppid(), 9),
        "a socket": socket.socket,
    }
    told = {
        "seccomp": c.prctl(21, 0, 0, 0, 0),
        "no_new_privs": c.prctl(39, 0, 0, 0, 0),
        "dumpable": c.prctl(3, 0, 0, 0, 0),
        "capabilities": capabilities.raw.count(b"\\0") - 24,
        "descriptors": len([n for n in range(1000) if is_open(n)]),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
            told[name] = "got it"
        except OSError as refused:
            told[name] = type(refused).__name__
    raise NotAnImage(json.dumps(told))

def is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True

functions.process_image.processing.identify = take_over
"""


@pytest.mark.skipif(not _FILTERED, reason="Only Linux on x86_64 and arm64 filters system calls.")
def test_a_file_that_takes_over_its_decoder_is_in_the_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a render server with a hostile decoder
    (tmp_path / "sitecustomize.py").write_text(_HOSTILE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    limits = Limits(max_bytes=1_000_000, max_pixels=1_000_000, max_frames=1)
    rendition_set = rendition_set_of((RenditionSpec("small", 8, 8),))
    server = RenderServer(limits, rendition_set, Admission(10**9, 2), 60)
    # when it gets a file
    with closing(server), pytest.raises(NotAnImage) as told:
        server.render(b"a", Deadline(time() + 60))
    # then it finds no way out: three descriptors are its standard ones, and one is its answer's
    assert json.loads(str(told.value)) == {
        "seccomp": 2,
        "no_new_privs": 1,
        "dumpable": 0,
        "capabilities": 0,
        "descriptors": 4,
        "a file": "PermissionError",
        "its server's environment": "PermissionError",
        "its server's life": "PermissionError",
        "a socket": "PermissionError",
    }


def _start_a_thread() -> None:
    thread = Thread(target=int)
    thread.start()
    thread.join()


class TestTheProgramForArm64:
    """What the kernel would decide there, by reading the program as it does."""

    ARM64 = 0xC00000B7

    def decide(self, number: int, *arguments: int, architecture: int = ARM64) -> int | str:
        """Return "allowed", or the error of a system call."""
        program = sandbox._program(1, self.ARM64)
        call = struct.pack("IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
        at, value = 0, 0
        while True:
            code, if_true, if_false, operand = struct.unpack_from("HBBI", program, 8 * at)
            at += 1
            match code:
                case 0x20:
                    (value,) = struct.unpack_from("I", call, operand)
                case 0x15:
                    at += if_true if value == operand else if_false
                case 0x35:
                    at += if_true if value >= operand else if_false
                case 0x45:
                    at += if_true if value & operand else if_false
                case 0x06:
                    return "allowed" if operand == 0x7FFF0000 else operand & 0xFFFF
                case _:
                    pytest.fail(f"unknown instruction {code:#x}")

    @pytest.mark.parametrize(
        "number",
        [56, 437, 198, 199, 203, 221, 281, 279, 117, 270, 438, 425, 280, 282, 241, 219, 97, 35, 38, 29],
        ids=[
            "openat",
            "openat2",
            "socket",
            "socketpair",
            "connect",
            "execve",
            "execveat",
            "memfd_create",
            "ptrace",
            "process_vm_readv",
            "pidfd_getfd",
            "io_uring_setup",
            "bpf",
            "userfaultfd",
            "perf_event_open",
            "keyctl",
            "unshare",
            "unlinkat",
            "renameat",
            "ioctl",
        ],
    )
    def test_it_denies_the_numbers_of_arm64(self, number: int) -> None:
        assert self.decide(number) == errno.EPERM

    @pytest.mark.parametrize("number", [63, 64, 98, 113, 206, 207, 212, 214, 222, 226, 93, 94], ids=str)
    def test_it_allows_what_decoding_needs(self, number: int) -> None:
        """Such as read, write, futex, sendto, recvfrom, brk, mmap and exit."""
        assert self.decide(number) == "allowed"

    def test_it_looks_at_arguments(self) -> None:
        clone, kill, prlimit64, fcntl_, itself = 220, 129, 261, 25, 0xFFFFFFFF
        assert self.decide(clone, 0x3D0F00) == "allowed"  # a thread
        assert self.decide(clone, 17) == errno.EPERM
        assert self.decide(kill, itself) == "allowed"  # the place of the process's id
        assert self.decide(kill, 1) == errno.EPERM
        assert self.decide(prlimit64, 0) == "allowed"
        assert self.decide(prlimit64, 1) == errno.EPERM
        assert self.decide(fcntl_, 1, 3) == "allowed"
        assert self.decide(fcntl_, 1, 8) == errno.EPERM

    def test_it_knows_no_other_architecture_and_no_newer_call(self) -> None:
        assert self.decide(63, architecture=0x40000028) == errno.EPERM  # 32-bit ARM
        assert self.decide(451) == errno.ENOSYS
        assert self.decide(435) == errno.ENOSYS  # clone3


class TestWithoutAFilter:
    """On systems without a filter of system calls, such as macOS."""

    @pytest.fixture(autouse=True)
    def no_filter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sandbox, "_PROGRAM", b"")

    def test_it_writes_nothing_into_a_file(self, secret: Path) -> None:
        assert _in_a_fork(lambda: secret.write_text("overtaken")) == "OSError"
        assert secret.read_text() == ""

    def test_it_leaves_threads_to_the_other_processes_of_its_user(self) -> None:
        def be_a_user_with_four_hundred() -> None:
            resource.setrlimit(resource.RLIMIT_NPROC, (400, 400))
            if os.getuid() == 0:  # to whom no limit applies
                os.setgid(_NOBODY)
                os.setuid(_NOBODY)

        def start_three_hundred() -> None:
            for _ in range(300):
                Thread(target=Event().wait, daemon=True).start()

        assert _in_a_fork(start_three_hundred, be_a_user_with_four_hundred) == "RuntimeError"


def test_it_has_only_its_own_descriptors(secret: Path) -> None:
    with secret.open() as file:
        number = file.fileno()
        assert _in_a_fork(lambda: os.read(number, 1)) == "OSError"


def test_it_has_few_descriptors() -> None:
    def many() -> None:
        for _ in range(100):
            os.dup(1)

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
