"""Closes a listening socket without resetting connections; raises the limit of open files."""

import contextlib
import ctypes
import errno
import resource
import socket
import struct

SO_ATTACH_FILTER = 26
# Classic BPF on the TCP header: drop what has SYN and no ACK, let everything else pass.
_NO_NEW = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (6, 0, 0, 0), (6, 0, 0, -1))
TRANSIENT = (errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EINTR)  # of `accept`
FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def raise_file_limit() -> int:
    """Allow as many open files as the system lets this process have; returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def refuse_new(listener: socket.socket) -> None:
    """Let no further connection begin; those that have begun complete and can be accepted.

    When the last holder of a listening socket closes it, the kernel resets the connections in the
    accept queue, and one more can always come between the last `accept` and that `close`. With new
    SYNs dropped none can. A client that tries gets no answer; its retry is refused by the closed
    port. Linux and TCP only; elsewhere nothing happens.
    """
    code = b"".join(struct.pack("=HBBI", a, b, c, d & 0xFFFFFFFF) for a, b, c, d in _NO_NEW)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HL", len(_NO_NEW), ctypes.addressof(buffer))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
