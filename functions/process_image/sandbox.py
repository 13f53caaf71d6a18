"""What a process that decodes an untrusted file must not do, even if the file takes it over.

The kernel keeps these rules, so that no code in the process can lift them. They are a list of what is denied: a new
version of an image library may need another call, but never one that starts programs or connects.
Linux on x86_64 and arm64; elsewhere, and where a kernel has no filters, only the limits of :func:`enter` hold.
docs/decisions/0015-decoding-apart.md

https://www.kernel.org/doc/html/latest/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
import sys

_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 22, 38  # linux/prctl.h
_SECCOMP_MODE_FILTER = 2
_MOST_DESCRIPTORS = 64

# Of struct seccomp_data.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # linux/bpf_common.h
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000  # linux/seccomp.h
_DENIED, _UNKNOWN = _REFUSE | errno.EPERM, _REFUSE | 38  # ENOSYS: the C library falls back to an older call
_X32 = 0x40000000  # the numbers of another interface of x86_64
_CLONE_THREAD = 0x10000

_ITSELF = 0xFFFFFFFF  # the place of the process's id in the program; no process has this one
_C = ctypes.CDLL(None)

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # linux/audit.h
# Numbers on x86_64 and on arm64, which has no old forms. Each line is a way out.
_NEVER: tuple[tuple[int, int | None], ...] = (
    # network: socket, connect, bind, listen, accept, accept4
    *((41, 198), (42, 203), (49, 200), (50, 201), (43, 202), (288, 242)),
    # other programs and processes: execve, execveat, fork, vfork
    *((59, 221), (322, 281), (57, None), (58, None)),
    # memory and descriptors of others: ptrace, process_vm_readv, process_vm_writev, kcmp, pidfd_open, pidfd_getfd,
    # process_madvise
    *((101, 117), (310, 270), (311, 271), (312, 272), (434, 434), (438, 438), (440, 440)),
    # signals to others: tkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal
    *((200, 130), (129, 138), (297, 240), (424, 424)),
    # past this filter, or into the kernel: io_uring_setup, _enter, _register, bpf, perf_event_open, userfaultfd,
    # add_key, request_key, keyctl, unshare, setns, mount, chroot, open_by_handle_at
    *((425, 425), (426, 426), (427, 427), (321, 280), (298, 241), (323, 282), (248, 217), (249, 218), (250, 219)),
    *((272, 97), (308, 268), (165, 40), (161, 51), (304, 265)),
)
_CLONE, _CLONE3 = (56, 220), (435, 435)
_KILL, _TGKILL, _PRLIMIT64 = (62, 129), (234, 131), (302, 261)


def hide() -> None:
    """Keep this process's memory, environment and descriptors from other processes of the same user.

    Until it starts another program. The environment of a function holds its credentials.
    https://man7.org/linux/man-pages/man2/PR_SET_DUMPABLE.2const.html
    """
    if sys.platform == "linux":
        _C.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def enter(keep: int) -> bool:
    """Give up for good what decoding a file does not need.

    Parameters
    ----------
    keep : int
        The only descriptor that stays open, besides standard input, output and error.

    Returns
    -------
    bool
        Whether the kernel filters system calls; limits and descriptors hold in any case.
    """
    os.closerange(3, keep)
    os.closerange(max(keep + 1, 3), os.sysconf("SC_OPEN_MAX"))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST_DESCRIPTORS, _MOST_DESCRIPTORS))
    if not _PROGRAM:
        return False
    for at in _PROCESS_AT:
        struct.pack_into("I", _CODE, at, os.getpid())
    return not (
        _C.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or _C.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, _HEADER, 0, 0)
    )


def _program(column: int, architecture: int) -> bytes:
    """Return the filter as the kernel reads it, with _ITSELF for the process."""
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_IF_EQUAL, architecture, 1, 0),
        _step(_RETURN, _DENIED),
        _step(_LOAD, _NUMBER),
        _step(_IF_AT_LEAST, _X32, 0, 1),
        _step(_RETURN, _DENIED),
    ]

    def on(call: tuple[int, int | None], *then: bytes) -> None:
        number = call[column]
        if number is not None:
            steps.extend([_step(_IF_EQUAL, number, 0, len(then)), *then])

    def only_if(argument: int, test: int, value: int) -> list[bytes]:
        return [
            _step(_LOAD, _ARGUMENTS + 8 * argument),
            _step(test, value, 1, 0),
            _step(_RETURN, _DENIED),
            _step(_RETURN, _ALLOW),
        ]

    for call in _NEVER:
        on(call, _step(_RETURN, _DENIED))
    on(_CLONE3, _step(_RETURN, _UNKNOWN))  # its arguments are in memory, which a filter does not see
    on(_CLONE, *only_if(0, _IF_ANY_BIT, _CLONE_THREAD))
    for call in (_KILL, _TGKILL):  # itself, as abort() does
        on(call, *only_if(0, _IF_EQUAL, _ITSELF))
    on(_PRLIMIT64, *only_if(0, _IF_EQUAL, 0))
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


# Made once, before the render server forks; each process writes its id into its own copy.
_PROGRAM = (
    _program(*_ARCHITECTURES[platform.machine()])
    if sys.platform == "linux" and platform.machine() in _ARCHITECTURES
    else b""
)
_CODE = ctypes.create_string_buffer(_PROGRAM, len(_PROGRAM) or 1)
_HEADER = struct.pack("HxxxxxxP", len(_PROGRAM) // 8, ctypes.addressof(_CODE))  # struct sock_fprog
_PROCESS_AT = [at + 4 for at in range(0, len(_PROGRAM), 8) if _PROGRAM[at + 4 : at + 8] == struct.pack("I", _ITSELF)]
