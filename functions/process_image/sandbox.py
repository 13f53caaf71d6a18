"""What a process that decodes an untrusted file must not do, even if the file takes it over.

The kernel keeps these rules, so that no code in the process can lift them. They are a list of what is denied: a new
version of an image library may need another call, but never one that opens a file, connects or starts a program.
All that decoding needs is loaded before.
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
import signal
import struct
import sys

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38  # linux/prctl.h
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15  # asm-generic/fcntl.h
_CAPABILITIES_VERSION_3 = 0x20080522  # linux/capability.h
_SECCOMP_MODE_FILTER = 2
_MOST_DESCRIPTORS = 64

# Of struct seccomp_data.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # linux/bpf_common.h
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000  # linux/seccomp.h
_DENIED, _UNKNOWN = _REFUSE | errno.EPERM, _REFUSE | 38  # ENOSYS: the C library falls back to an older call
_CLONE_THREAD = 0x10000

_ITSELF = 0xFFFFFFFF  # the place of the process's id in the program; no process has this one
_C = ctypes.CDLL(None)

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # linux/audit.h
# A system call and its numbers on x86_64 and on arm64, which lacks some older ones. The numbers are from Linux's
# arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
_Call = tuple[str, int | None, int | None]
_NEVER: tuple[_Call, ...] = (
    # to read, write and execute files, and to see other processes in /proc
    *(("open", 2, None), ("openat", 257, 56), ("openat2", 437, 437), ("creat", 85, None)),
    *(("open_by_handle_at", 304, 265), ("open_tree", 428, 428)),
    # to watch what others do with files, and to read the kernel's log
    *(("inotify_init", 253, None), ("inotify_init1", 294, 26), ("fanotify_init", 300, 262), ("syslog", 103, 116)),
    # to change files without opening them
    *(("truncate", 76, 45), ("mkdir", 83, None), ("mkdirat", 258, 34), ("mknod", 133, None), ("mknodat", 259, 33)),
    *(("rmdir", 84, None), ("unlink", 87, None), ("unlinkat", 263, 35), ("rename", 82, None), ("renameat", 264, 38)),
    *(("renameat2", 316, 276), ("link", 86, None), ("linkat", 265, 37), ("symlink", 88, None), ("symlinkat", 266, 36)),
    *(("chmod", 90, None), ("fchmod", 91, 52), ("fchmodat", 268, 53), ("chown", 92, None), ("lchown", 94, None)),
    *(("fchown", 93, 55), ("fchownat", 260, 54), ("utime", 132, None), ("utimes", 235, None)),
    *(("futimesat", 261, None), ("utimensat", 280, 88), ("setxattr", 188, 5), ("lsetxattr", 189, 6)),
    *(("fsetxattr", 190, 7), ("removexattr", 197, 14), ("lremovexattr", 198, 15), ("fremovexattr", 199, 16)),
    # to connect; a datagram of a socket pair can have an address
    *(("socket", 41, 198), ("socketpair", 53, 199), ("connect", 42, 203), ("bind", 49, 200), ("listen", 50, 201)),
    *(("accept", 43, 202), ("accept4", 288, 242)),
    # to start programs and processes
    *(("execve", 59, 221), ("execveat", 322, 281), ("fork", 57, None), ("vfork", 58, None)),
    # to make a file in memory, which could be executed
    *(("memfd_create", 319, 279), ("memfd_secret", 447, 447)),
    # to leave something behind for other processes, or to use what they share
    *(("shmget", 29, 194), ("shmat", 30, 196), ("shmctl", 31, 195), ("semget", 64, 190), ("semop", 65, 193)),
    *(("semtimedop", 220, 192), ("semctl", 66, 191), ("msgget", 68, 186), ("msgsnd", 69, 189), ("msgrcv", 70, 188)),
    *(("msgctl", 71, 187), ("mq_open", 240, 180), ("mq_unlink", 241, 181)),
    # to reach the memory and the descriptors of other processes
    *(("ptrace", 101, 117), ("process_vm_readv", 310, 270), ("process_vm_writev", 311, 271), ("kcmp", 312, 272)),
    *(("pidfd_open", 434, 434), ("pidfd_getfd", 438, 438), ("process_madvise", 440, 440)),
    *(("process_mrelease", 448, 448), ("migrate_pages", 256, 238), ("move_pages", 279, 239)),
    # to signal them, and to slow them down
    *(("tkill", 200, 130), ("rt_sigqueueinfo", 129, 138), ("rt_tgsigqueueinfo", 297, 240)),
    *(("pidfd_send_signal", 424, 424), ("setpriority", 141, 140), ("ioprio_set", 251, 30)),
    *(("sched_setparam", 142, 118), ("sched_setscheduler", 144, 119), ("sched_setattr", 314, 274)),
    *(("sched_setaffinity", 203, 122), ("sync", 162, 81), ("syncfs", 306, 267)),
    # to get around this filter, or into the kernel; what needs a capability fails without being listed
    *(("io_uring_setup", 425, 425), ("io_uring_enter", 426, 426), ("io_uring_register", 427, 427)),
    *(("io_setup", 206, 0), ("bpf", 321, 280), ("perf_event_open", 298, 241), ("userfaultfd", 323, 282)),
    *(("add_key", 248, 217), ("request_key", 249, 218), ("keyctl", 250, 219), ("unshare", 272, 97)),
    *(("setns", 308, 268), ("ioctl", 16, 29), ("splice", 275, 76), ("vmsplice", 278, 75), ("tee", 276, 77)),
    *(("personality", 135, 92), ("modify_ldt", 154, None)),
)
_CLONE, _CLONE3 = ("clone", 56, 220), ("clone3", 435, 435)
_KILL, _TGKILL, _PRLIMIT64 = ("kill", 62, 129), ("tgkill", 234, 131), ("prlimit64", 302, 261)
_FCNTL, _PRCTL = ("fcntl", 72, 25), ("prctl", 157, 167)
# From here on come the calls of Linux 6.2 and later, and the other interface of x86_64, x32. Libraries do without.
_NUMBERS = 451


def hide() -> None:
    """Keep this process's memory, environment and descriptors from other processes of the same user.

    Until it starts another program. The environment of a function holds its credentials.
    https://man7.org/linux/man-pages/man2/PR_SET_DUMPABLE.2const.html
    """
    if sys.platform == "linux":
        _C.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def end_with_parent() -> None:
    """Let the kernel kill this process when its parent ends.

    On other systems than Linux an orphan runs until its time is up.
    https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    """
    if sys.platform == "linux":
        _C.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def drop_capabilities() -> None:
    """Give up what the superuser may do beyond other users, such as to look into hidden processes.

    Functions in a container may run as the superuser; in Lambda they do not.
    https://man7.org/linux/man-pages/man2/capset.2.html
    """
    if sys.platform == "linux":
        _C.capset(struct.pack("Ii", _CAPABILITIES_VERSION_3, 0), bytes(24))


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
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _MOST_DESCRIPTORS),
    ):
        resource.setrlimit(limit, (most, most))
    _, threads = resource.getrlimit(resource.RLIMIT_NPROC)
    if threads != resource.RLIM_INFINITY:  # of all processes of the user: the others keep the other half
        resource.setrlimit(resource.RLIMIT_NPROC, (threads // 2, threads // 2))
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
        _step(_IF_AT_LEAST, _NUMBERS, 0, 1),
        _step(_RETURN, _UNKNOWN),
    ]

    def on(call: _Call, *then: bytes) -> None:
        number = call[1:][column]
        if number is not None:
            steps.extend([_step(_IF_EQUAL, number, 0, len(then)), *then])

    def only_if(argument: int, test: int, value: int) -> list[bytes]:
        return [
            _step(_LOAD, _ARGUMENTS + 8 * argument),
            _step(test, value, 1, 0),
            _step(_RETURN, _DENIED),
            _step(_RETURN, _ALLOW),
        ]

    def unless(argument: int, *values: int) -> list[bytes]:
        tests = [test for value in values for test in (_step(_IF_EQUAL, value, 0, 1), _step(_RETURN, _DENIED))]
        return [_step(_LOAD, _ARGUMENTS + 8 * argument), *tests, _step(_RETURN, _ALLOW)]

    for call in _NEVER:
        on(call, _step(_RETURN, _DENIED))
    on(_CLONE3, _step(_RETURN, _UNKNOWN))  # its arguments are in memory, which a filter does not see
    on(_CLONE, *only_if(0, _IF_ANY_BIT, _CLONE_THREAD))
    for call in (_KILL, _TGKILL):  # itself, as abort() does
        on(call, *only_if(0, _IF_EQUAL, _ITSELF))
    on(_PRLIMIT64, *only_if(0, _IF_EQUAL, 0))
    on(_FCNTL, *unless(1, _F_SETOWN, _F_SETSIG, _F_SETOWN_EX))  # the kernel would send signals in its place
    on(_PRCTL, *unless(0, _PR_SET_PDEATHSIG, _PR_SET_DUMPABLE))  # it ends with its server, and stays hidden
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
