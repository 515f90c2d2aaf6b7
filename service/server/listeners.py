"""The end of a listening socket without a reset connection, and how many may be open."""

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
    """Allow as many open files as the system lets this process have; how many that are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def refuse_new(listener: socket.socket) -> None:
    """Let no further connection begin, while those that have begun complete and can be accepted.

    The kernel resets what waits in the accept queue when the last holder of a listening socket
    closes it, and between the last `accept` and that `close` there is always time for one more.
    With new SYNs dropped there is none. A client that tries is not answered, and is refused when
    it tries again. Linux only, for TCP; elsewhere nothing happens.
    """
    code = b"".join(struct.pack("=HBBI", a, b, c, d & 0xFFFFFFFF) for a, b, c, d in _NO_NEW)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HL", len(_NO_NEW), ctypes.addressof(buffer))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
