"""What keeps a process that reads a stranger's file from doing anything else.

On Linux: an empty network of its own where the kernel lets users have one; a filter of system calls (x86-64,
aarch64) that refuses sockets, programs and other processes; limits on memory, processor time and file size
(these on every Unix). Everywhere: a hook that refuses Python code the same, and changing files. Files stay
readable, and a flaw in native code could still write what the user may write, so this is a second wall. The
first is that the weights-only reader of torch calls nothing that a file names.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from pathlib import Path

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
NUMBER_AT, MACHINE_AT = 0, 4  # offsets in struct seccomp_data
X32_CALLS = 0x40000000

# socket, connect, socketpair, execve, execveat, fork, vfork, ptrace, process_vm_writev, kill,
# io_uring_setup, bpf
CALLS = {
    "x86_64": (0xC000003E, (41, 42, 53, 59, 322, 57, 58, 101, 311, 62, 425, 321)),
    "aarch64": (0xC00000B7, (198, 203, 199, 221, 281, 117, 271, 129, 425, 280)),
}
REFUSED_EVENTS = ("socket.", "subprocess.", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.fork")
CHANGING_EVENTS = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.chown",
    "os.mkdir",
    "os.truncate",
    "os.utime",
    "os.setxattr",
    "os.removexattr",
    "shutil.",
    "ctypes.",
)
CPU_SECONDS = 900


class SandboxError(RuntimeError):
    """Something that a file tried to do while it was read; one line names it."""


def leave_network() -> bool:
    """Move into an empty network. True where that worked: Linux, before the process has any thread."""
    if not sys.platform.startswith("linux"):
        return False
    unshare = ctypes.CDLL(None, use_errno=True).unshare
    # Root may without a user namespace, in which it would lose the right to read other users' files.
    return bool(unshare(CLONE_NEWNET) == 0 or unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0)


def confine(memory_bytes: int, file_bytes: int, writable: Path) -> None:
    """Let the process only compute, read, and write below `writable`, for good.

    Parameters: `memory_bytes`, what it may take in addition to what it has; `file_bytes`, the largest file
    it may write. Threads: main.
    """
    _limit(memory_bytes, file_bytes)
    _filter_calls()
    _forbid_in_python(writable.resolve())


def _limit(memory_bytes: int, file_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    limits = [
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
    ]
    pages = Path("/proc/self/statm")
    if pages.exists():
        taken = int(pages.read_text().split()[0]) * resource.getpagesize()
        limits.append((resource.RLIMIT_AS, taken + memory_bytes))
    for what, most in limits:
        resource.setrlimit(what, (most, most))


def _filter_calls() -> bool:
    """Refuse the system calls of CALLS with EPERM. True where the kernel took the filter."""
    machine, numbers = CALLS.get(platform.machine(), (0, ()))
    if not sys.platform.startswith("linux") or not numbers:
        return False
    steps = [
        (LOAD, 0, 0, MACHINE_AT),
        (EQUAL, 1, 0, machine),
        (RETURN, 0, 0, REFUSE),
        (LOAD, 0, 0, NUMBER_AT),
    ]
    steps += [(AT_LEAST, len(numbers) + 1, 0, X32_CALLS)]
    steps += [(EQUAL, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
    steps += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _forbid_in_python(writable: Path) -> None:
    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event.startswith(REFUSED_EVENTS) or event.startswith(CHANGING_EVENTS):
            raise SandboxError(f"something in the file asked for {event}")
        if event == "open" and _writes(arguments) and not _is_below(arguments[0], writable):
            raise SandboxError("something in the file asked to write another file")

    sys.addaudithook(hook)


def _writes(arguments: tuple[object, ...]) -> bool:
    _path, mode, flags = arguments
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _is_below(path: object, folder: Path) -> bool:
    return isinstance(path, str | bytes | os.PathLike) and Path(os.fsdecode(path)).resolve().is_relative_to(
        folder
    )
