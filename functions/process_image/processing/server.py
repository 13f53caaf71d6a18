"""The render server: a process that knows the image libraries and forks one process for each image.

It runs one thread and decodes nothing itself, so a fork is safe and cheap. The forked process identifies and renders
one file, under limits that the kernel enforces, and exits. A file can crash its own process, but no other.
"""

from __future__ import annotations

import base64
import ctypes
import gc
import os
import resource
import select
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pyvips
from darkroom.errors import DecoderOutOfMemory, PermanentFault

from functions.process_image import sandbox
from functions.process_image.photo import Limits
from functions.process_image.processing import estimate_memory, estimate_seconds, identify, render
from functions.process_image.processing.layout import Layout
from functions.process_image.processing.load import load
from functions.process_image.render_messages import (
    EXIT_STATUS,
    GO,
    OVERHEAD_BYTES,
    REQUEST,
    defect_answer,
    fault_answer,
    photo_answer,
    read_configuration,
    rendered_answer,
)
from functions.process_image.rendition_set import RenditionSet

#: Python's message when there is no memory for a thread's stack.
_NO_THREAD = "can't start new thread"

#: The stack of a thread; the default of 8 MB would count against the limit. libvips uses at least this much itself.
_STACK_BYTES = 2 * 2**20

#: A grey JPEG of 8 x 8 pixels.
_SMALL_PICTURE = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19i"
    "Z2hnPk1xeXBkeFxlZ2P/wAALCAAIAAgBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAAP/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAI"
    "AQEAAD8AP//Z"
)

#: The operations of libvips that most photos need, besides the encoders.
_OPERATIONS = (
    *("jpegload_source", "pngload_source", "webpload_source", "gifload_source", "tiffload_source", "heifload_source"),
    *("arrayjoin", "bandjoin_const", "cast", "colourspace", "copy", "crop", "extract_band", "icc_transform"),
    *("premultiply", "resize", "rot", "unpremultiply"),
)


def serve(control: socket.socket, limits: Limits, rendition_set: RenditionSet, cpu_seconds: int) -> None:
    """Render images until the function is gone.

    Parameters
    ----------
    control : socket
        Delivers a byte for each image, with two sockets: for its messages, and for its process's exit status.
    limits : Limits
        What to refuse.
    rendition_set : RenditionSet
        What to make.
    cpu_seconds : int
        CPU time that an image may use.
    """
    wake, woken = socket.socketpair()
    for end in (wake, woken):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken.fileno())
    exit_statuses: dict[int, socket.socket] = {}
    while True:
        readable, _, _ = select.select([control, wake, *exit_statuses.values()], [], [])
        if wake in readable:
            wake.recv(4096)
            _report_ended(exit_statuses)
        _kill_abandoned(exit_statuses, readable)
        if control in readable:
            try:
                message, descriptors, _, _ = socket.recv_fds(control, 1, 2)
            except ConnectionError:  # it closed before this server was ready
                break
            if not message:
                break
            request, exit_status = (socket.socket(fileno=descriptor) for descriptor in descriptors)
            with request:
                before = _data_size()
                try:
                    process = os.fork()
                except OSError:  # no memory for the fork: the function notices that the sockets close
                    exit_status.close()
                    continue
                if process == 0:
                    for inherited in (control, wake, woken, exit_status, *exit_statuses.values()):
                        inherited.close()
                    _render_one(request, limits, rendition_set, cpu_seconds, before)
            exit_statuses[process] = exit_status
    signal.set_wakeup_fd(-1)  # its socket closes before the last process has ended
    for process in exit_statuses:
        os.kill(process, signal.SIGKILL)


def _report_ended(exit_statuses: dict[int, socket.socket]) -> None:
    """Send the function the exit status of every process that has ended."""
    with suppress(ChildProcessError):
        while True:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == 0:
                return
            if process in exit_statuses:
                with (
                    exit_statuses.pop(process) as exit_status,
                    suppress(OSError),
                ):  # nobody may listen
                    exit_status.send(EXIT_STATUS.pack(os.waitstatus_to_exitcode(status)))


def _kill_abandoned(exit_statuses: dict[int, socket.socket], readable: list[socket.socket]) -> None:
    """Kill every process that the function no longer waits for: a file can keep its process from ending.

    The function's end of its socket is closed then, and so ours is readable.
    """
    for process in [process for process, exit_status in exit_statuses.items() if exit_status in readable]:
        os.kill(process, signal.SIGKILL)
        exit_statuses.pop(process).close()


def _render_one(
    request: socket.socket, limits: Limits, rendition_set: RenditionSet, cpu_seconds: int, before: int
) -> NoReturn:
    """Run the process of one image, which shares ``before`` bytes with the server."""
    try:
        _fence(cpu_seconds)
        sandbox.enter(keep=request.fileno())
        rehearse(limits, rendition_set)
        _answer(request, limits, rendition_set, before)
    except PermanentFault as fault:
        request.sendall(fault_answer(fault))
    except Exception as error:  # noqa: BLE001
        if isinstance(error, MemoryError) or str(error) == _NO_THREAD:
            ceiling, _ = resource.getrlimit(resource.RLIMIT_DATA)
            reason = f"rendering it takes more than {ceiling // 2**20} MB, the most that it may take"
            request.sendall(fault_answer(DecoderOutOfMemory(reason)))
        else:  # a defect in Darkroom, which the function logs with the task
            request.sendall(defect_answer(traceback.format_exc()))
    finally:
        os._exit(0)  # without cleaning up what belongs to the server


def _fence(cpu_seconds: int) -> None:
    """Detach the process from the server's resources, and end it when the server ends."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # a decoder's output may contain text from the file
    sandbox.end_with_parent()
    # SIGXCPU at the first limit, which shows the reason; SIGKILL at the second.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))


def rehearse(limits: Limits, rendition_set: RenditionSet) -> None:
    """Run the code that every image needs, on a picture of our own. It decodes no pixel and starts no thread.

    In the process of an image, while the file is still on its way: after a fork, each page of memory costs a few
    microseconds when it is first used; 3 ms for an image's first steps. In the server: what is made at first use is
    made once, and not again by every process.
    """
    photo = identify(_SMALL_PICTURE, limits)
    estimate_memory(photo, rendition_set)
    estimate_seconds(photo, rendition_set)
    load(_SMALL_PICTURE, photo, Layout(photo.width, photo.height, photo.width, photo.height))


def _answer(request: socket.socket, limits: Limits, rendition_set: RenditionSet, before: int) -> None:
    seconds, size, spare = REQUEST.unpack(request.recv(REQUEST.size, socket.MSG_WAITALL))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    _limit_memory(before + OVERHEAD_BYTES + size + spare)
    data = request.recv(size, socket.MSG_WAITALL) if size else b""
    photo = identify(data, limits)
    memory = estimate_memory(photo, rendition_set)
    request.sendall(photo_answer(photo, memory, estimate_seconds(photo, rendition_set)))
    go = request.recv(GO.size, socket.MSG_WAITALL)
    if not go:
        return
    signal.setitimer(signal.ITIMER_REAL, *GO.unpack(go))
    _limit_memory(before + OVERHEAD_BYTES + size + (spare or memory))
    rendered = render(data, photo, rendition_set, encoders=1 if spare else 2)
    request.sendall(rendered_answer(rendered))
    for rendition in rendered.renditions:
        request.sendall(rendition.body)


def _data_size() -> int:
    """Return the bytes that RLIMIT_DATA counts already: the server's memory, shared until the process writes to it."""
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()


def _limit_memory(ceiling: int) -> None:
    """Limit the process to this many more bytes.

    The limit is on writable memory. RLIMIT_AS would count addresses, of which malloc reserves many for every thread.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (ceiling, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def look_up_operations(rendition_set: RenditionSet) -> None:
    """Let pyvips ask libvips what its operations take, which every image's process would do again: 5 ms of CPU."""
    savers = (f"{spec.output.saver}_buffer" for spec in rendition_set.specs)
    for name in (*_OPERATIONS, *savers):
        pyvips.Introspect.get(name)


def shrink_stacks() -> None:
    """Give every thread that starts from now on, including a library's, a small stack.

    An image has eight to ten threads, and RLIMIT_DATA counts whole stacks, written to or not.
    https://man7.org/linux/man-pages/man3/pthread_setattr_default_np.3.html
    """
    if sys.platform == "linux":
        libc, attributes = ctypes.CDLL(None), ctypes.create_string_buffer(128)  # 56 or 64 bytes are used
        libc.pthread_attr_init(attributes)
        libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(_STACK_BYTES))
        libc.pthread_setattr_default_np(attributes)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the function, and this server ends with it
    shrink_stacks()
    configured = read_configuration(sys.argv[1])
    look_up_operations(configured[1])
    for _ in range(3):  # the third time still saves CPU time in every process, a tenth does not
        rehearse(*configured[:2])
    gc.freeze()
    sandbox.hide()  # protects it from the processes that it forks, and these from one another
    sandbox.drop_capabilities()
    with socket.socket(fileno=0) as function:
        with suppress(ConnectionError):  # it may have ended already
            function.send(b"\0")  # ready: every library has loaded
        serve(function, *configured)
