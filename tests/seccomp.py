"""Runs a command that may not use `io_uring`, as in a container: `python seccomp.py ERRNO COMMAND...`.

A seccomp filter (seccomp(2)) answers its system calls with that error, for the command and all it starts.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
#: io_uring_setup, io_uring_enter, io_uring_register: the same numbers on every architecture.
FORBIDDEN = (425, 426, 427)
LOAD_NUMBER = (0x20, 0, 0, 0)
ALLOW = (0x06, 0, 0, 0x7FFF0000)
REFUSE = 0x00050000


def install(error: int) -> None:
    """Install the filter in this process."""
    checks = [(0x15, len(FORBIDDEN) - index, 0, number) for index, number in enumerate(FORBIDDEN)]
    program = [LOAD_NUMBER, *checks, ALLOW, (0x06, 0, 0, REFUSE | error)]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    filter_ = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_, 0, 0),
    ):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "the kernel takes no seccomp filter")


if __name__ == "__main__":
    install(getattr(errno, sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
