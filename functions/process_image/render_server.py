"""Render every image in a process of its own, so that a hostile file affects only itself.

The processes are forked from a server that has the image libraries loaded; the function's own process never loads them.
docs/decisions/0015-decoding-apart.md
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedReader
from select import select
from threading import Lock
from time import time
from typing import NamedTuple

from darkroom.deadline import Deadline
from darkroom.errors import (
    DamagedImage,
    DarkroomError,
    DecoderCrashed,
    DecoderOutOfMemory,
    DecoderTooSlow,
    NotBegun,
    OutOfTime,
    ServiceUnavailable,
    TooLarge,
    TooManyPixels,
)

from functions.process_image.admission import Admission
from functions.process_image.photo import Limits, Photo, Rendered
from functions.process_image.ports import SECONDS_TO_RENDER
from functions.process_image.render_messages import (
    EXIT_STATUS,
    GO,
    LENGTH,
    LONGEST_ANSWER,
    OVERHEAD_BYTES,
    REQUEST,
    ProtocolError,
    RenderDefect,
    configuration,
    read_photo,
    read_renditions,
)
from functions.process_image.rendition_set import RenditionSet

_MODULE = "functions.process_image.processing.server"
# What an interpreter may need to start. In Lambda its own library is on LD_LIBRARY_PATH.
_ENVIRONMENT = ("LD_LIBRARY_PATH", "PATH")
# One heap for all threads: they ask the kernel for memory a quarter less often. OVERHEAD_BYTES was measured with it.
_MALLOC = {"MALLOC_ARENA_MAX": "1"}
# Decoding opens no file: libvips would keep what takes more than 100 MB in one. More than any image takes.
_IN_MEMORY = {"VIPS_DISC_THRESHOLD": "64g"}
# Leaves time to release a task that is out of time before the batch is answered.
_SECONDS_TO_GIVE_BACK = 4
# For the image libraries to be loaded. In Lambda the initialisation ends long before.
_SECONDS_TO_START = 60
# Images of a batch.
_ENDS_AT_ONCE = 10
# For a process that is exiting to be gone, and for the server to read a request.
_SECONDS_TO_END = 5


class RenderServer:
    """The render server, started at once and restarted when it ends. Any number of threads may render.

    Parameters
    ----------
    limits : Limits
        What to refuse.
    rendition_set : RenditionSet
        What to make.
    admission : Admission
        Memory and vCPUs for the images that are rendered in parallel.
    cpu_seconds : int
        CPU time that one image may take.
    """

    def __init__(self, limits: Limits, rendition_set: RenditionSet, admission: Admission, cpu_seconds: int) -> None:
        self.limits = limits
        self.rendition_set = rendition_set
        self.admission = admission
        self.cpu_seconds = cpu_seconds
        self._lock = Lock()
        self._spare: _Process | None = None
        self._ends = ThreadPoolExecutor(_ENDS_AT_ONCE, thread_name_prefix="end")
        self._start()

    def wait_until_ready(self) -> None:
        """Wait until the first server has loaded the image libraries.

        Raises
        ------
        RenderDefect
            It could not load them.
        """
        self._control.settimeout(_SECONDS_TO_START)
        if not self._control.recv(1):
            self.close()
            raise RenderDefect("The render server did not start; its traceback is in the log.")
        self._control.settimeout(_SECONDS_TO_END)
        self._fork_ahead()

    def render(self, data: bytes, deadline: Deadline) -> tuple[Photo, Rendered]:
        """Make all renditions of a file, as :class:`~functions.process_image.ports.Renderer` says."""
        memory, admission = len(data) + OVERHEAD_BYTES, self.admission
        if memory > admission.capacity:
            raise TooLarge(
                f"decoding a file of {len(data):,} bytes takes at least {memory // 2**20} MB; "
                f"the function has {admission.capacity // 2**20} MB for it"
            )
        try:
            try:
                with ExitStack() as held:
                    place = held.enter_context(admission.look(memory, deadline))
                    return self._render_within(
                        data, deadline, lambda work: admission.admit(place, *work, deadline), held
                    )
            except _HasToWait as error:
                with ExitStack() as held:
                    held.enter_context(admission.turn(*error.work, deadline))
                    return self._render_within(data, deadline, lambda _: True, held)
        except (DecoderOutOfMemory, DecoderCrashed, _BrokeOff):
            # This file may take more than was estimated. Now nothing else runs, and it can use all memory.
            with ExitStack() as held:
                held.enter_context(admission.turn(admission.capacity, SECONDS_TO_RENDER, deadline))
                return self._render_within(data, deadline, lambda _: True, held, spare=admission.capacity - memory)

    def close(self) -> None:
        """End the server and all its processes."""
        with self._lock:
            self._stop()
        self._ends.shutdown()

    def _start(self) -> None:
        self._control, theirs = socket.socketpair()
        self._control.settimeout(_SECONDS_TO_END)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 # this interpreter, our module
                [sys.executable, "-P", "-m", _MODULE, configuration(self.limits, self.rendition_set, self.cpu_seconds)],
                # A process that decodes untrusted files gets neither the function's credentials nor its output.
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
                | _MALLOC
                | _IN_MEMORY
                | {"PYTHONPATH": os.pathsep.join(sys.path)},
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
            )

    def _stop(self) -> None:
        if self._spare:
            self._spare.close()
            self._spare = None
        self._control.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @contextmanager
    def _forked(self) -> Iterator[_Process]:
        """Have a process for one image, forked ahead if possible. The next one is forked when the image is done."""
        with self._lock:
            process, self._spare = self._spare, None
            if process and not process.is_waiting():
                process.close()
                process = None
            process = process or self._fork()
        try:
            yield process
        finally:
            process.close()
            self._fork_ahead()

    def _fork_ahead(self) -> None:
        """Have a process forked that enters its sandbox and waits for an image, unless there is one.

        The image before it does not fail if that is not possible; the next one tries again.
        """
        with self._lock, suppress(OSError):
            if self._spare is None and self._process.poll() is None:
                self._spare = self._fork()

    def _fork(self) -> _Process:
        request, its_request = socket.socketpair()
        exit_status, its_exit_status = socket.socketpair()
        try:
            with its_request, its_exit_status:
                if self._process.poll() is not None:
                    self._stop()
                    self._start()
                with suppress(OSError):  # just gone, or stuck: both sockets close, and their end gives the reason
                    socket.send_fds(self._control, [b"\0"], [its_request.fileno(), its_exit_status.fileno()])
            return _Process(request, exit_status, self._process)
        except BaseException:
            request.close()
            exit_status.close()
            raise

    def _render_within(
        self, data: bytes, deadline: Deadline, admit: Callable[[_Work], bool], held: ExitStack, spare: int = 0
    ) -> tuple[Photo, Rendered]:
        """Have an image rendered that may be looked at.

        ``admit`` waits until it may be rendered, or returns False. ``held`` are its memory and vCPU, which are given
        back when its process has ended; the image does not wait for that. ``spare`` bytes, if there are any, are what
        it may take instead of the estimate, with one encoder at a time.
        """
        process = held.enter_context(self._forked())
        try:
            rendered = self._ask(process, data, deadline, admit, spare)
        except BaseException:
            process.request.close()  # which ends a process that waits for a request
            _wait_for_end(process.exit_status)
            raise
        ending = held.pop_all()
        try:
            self._ends.submit(_give_back, process, ending)
        except RuntimeError:  # closed, or the interpreter ends
            _give_back(process, ending)
        return rendered

    def _ask(
        self, process: _Process, data: bytes, deadline: Deadline, admit: Callable[[_Work], bool], spare: int
    ) -> tuple[Photo, Rendered]:
        request, exit_status, server = process
        try:
            with request.makefile("rb") as stream:
                with suppress(ConnectionError):  # it may have answered, and ended, before it had all
                    request.sendall(REQUEST.pack(_time_for(request, deadline), len(data), spare))
                    request.sendall(data)
                photo, estimate, seconds = read_photo(_hear_answer(stream), self.limits)
                work = _Work(len(data) + OVERHEAD_BYTES + estimate, seconds)
                if work.memory > self.admission.capacity:
                    raise TooManyPixels(
                        f"rendering {photo.width} x {photo.height} pixels of this {photo.format} file takes about "
                        f"{work.memory // 2**20} MB; the function has {self.admission.capacity // 2**20} MB for it"
                    )
                if not admit(work):
                    raise _HasToWait(work)
                request.sendall(GO.pack(_time_for(request, deadline)))
                specs, most = self.rendition_set.specs_for(photo.frames), max(estimate, spare)
                try:
                    lengths, put_together = read_renditions(_hear_answer(stream), specs, most)
                except DamagedImage as fault:  # decoders also report a lack of memory as damage
                    raise (fault if spare else _BrokeOff) from fault
                bodies = [_hear(stream, length) for length in lengths]
            return photo, put_together(bodies)
        except ProtocolError as error:
            raise DecoderCrashed("the file made its decoder send an invalid answer") from error
        except TimeoutError as error:
            exit_status.close()  # and there is no time to wait for its end
            raise OutOfTime("The image was not rendered in time, and its process did not end.") from error
        except (EOFError, ConnectionError) as error:
            raise self._fault_of(exit_status, server) from error

    def _fault_of(self, exit_status: socket.socket, server: subprocess.Popen[bytes]) -> DarkroomError:
        """Why a process ended before it had answered. Raises RenderDefect."""
        told = _wait_for_end(exit_status)
        if not told:
            return _fault_of_server(server)
        (ended_with,) = EXIT_STATUS.unpack(told)
        if ended_with == -signal.SIGXCPU:
            return DecoderTooSlow(
                f"decoding it takes more than {self.cpu_seconds} s of CPU time, the most an image may take"
            )
        if ended_with == -signal.SIGALRM:
            return OutOfTime("The image was not rendered in time.")
        if ended_with in (-signal.SIGKILL, -signal.SIGTERM):  # not caused by the file
            return ServiceUnavailable("The process that rendered the image was killed.")
        if ended_with == 0:  # as it exits by itself after its answer
            raise RenderDefect("The process that rendered the image ended without an answer.")
        how = signal.Signals(-ended_with).name if ended_with < 0 else f"exit code {ended_with}"
        return DecoderCrashed(f"the file crashed its decoder ({how})")


class _Process(NamedTuple):
    """A process for one image: sockets for its requests and its exit status, and its server."""

    request: socket.socket
    exit_status: socket.socket
    server: subprocess.Popen[bytes]

    def is_waiting(self) -> bool:
        """Whether it and its server are still there; its exit status would be readable."""
        return self.server.poll() is None and not select([self.exit_status], [], [], 0)[0]

    def close(self) -> None:
        """Close the sockets, which ends a process that waits for a request."""
        self.request.close()
        self.exit_status.close()


class _Work(NamedTuple):
    """The resources for rendering an image: total bytes, and seconds of one vCPU."""

    memory: int
    seconds: float


class _BrokeOff(Exception):
    """The decoder found the file damaged, with no more memory than the estimate."""


class _HasToWait(Exception):
    """The image's memory is not free while other images hold theirs."""

    def __init__(self, work: _Work) -> None:
        self.work = work


def _give_back(process: _Process, held: ExitStack) -> None:
    """Give back what an image held, once its process has ended: only then is its memory free again."""
    with held:
        process.request.close()
        _wait_for_end(process.exit_status)


def _wait_for_end(exit_status: socket.socket) -> bytes:
    """Read once how a process ended; nothing if its server is gone, or it does not end."""
    try:
        exit_status.settimeout(_SECONDS_TO_END)
        return exit_status.recv(EXIT_STATUS.size)
    except OSError:
        return b""


def _fault_of_server(server: subprocess.Popen[bytes]) -> DarkroomError:
    """Return why there is no process and no report of its end. Raises RenderDefect."""
    try:
        status = server.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        return ServiceUnavailable("The render server could not fork another process.")
    if status >= 0:
        raise RenderDefect("The render server ended by itself; its traceback is in the log.")
    return ServiceUnavailable(f"The render server was killed by signal {-status}.")


def _time_for(request: socket.socket, deadline: Deadline) -> float:
    """Seconds left for an image; the function does not wait longer for its process."""
    seconds = deadline.at - time() - _SECONDS_TO_GIVE_BACK
    if seconds <= 0:
        raise NotBegun("There is no time left to render the image.")
    request.settimeout(seconds + 1)
    return seconds


def _hear_answer(stream: BufferedReader) -> bytes:
    (length,) = LENGTH.unpack(_hear(stream, LENGTH.size))
    if length > LONGEST_ANSWER:
        raise ProtocolError("too long")
    return _hear(stream, length)


def _hear(stream: BufferedReader, length: int) -> bytes:
    heard = stream.read(length)
    if len(heard) < length:
        raise EOFError
    return heard
