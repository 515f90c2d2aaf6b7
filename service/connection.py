"""A client's connection in a worker: its socket, what waits there, and what is still to be sent."""

import socket

from service.waiting import Stage, Waiting

READ_BYTES = 1 << 16
LINGER_BYTES = 1 << 16
LINGER_SECONDS = 2.0


class Connection:
    """State of one connection. The loop thread owns it, but while it is `busy`.

    `deadline` is on the monotonic clock, in seconds. `readable`: the kernel may hold bytes that we
    have not read (the poller tells each arrival once). `ending`: our last answer is out; what the
    client still sends is thrown away, up to `discard` bytes in `linger` seconds, so that it sees
    the answer before the connection closes (RFC 9112, section 9.6). `charged`: bytes held, as the
    loop has counted them.
    """

    __slots__ = (
        "busy", "charged", "closed", "deadline", "discard", "ending", "half_closed", "keep",
        "linger", "out", "readable", "sock", "stage", "step", "waiting",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, waiting: Waiting) -> None:
        self.sock, self.waiting = sock, waiting
        self.stage = waiting.stage
        self.busy = self.readable = self.half_closed = self.ending = self.closed = False
        self.keep = True
        self.out: memoryview | None = None
        self.deadline = 0.0
        self.discard, self.linger = LINGER_BYTES, LINGER_SECONDS
        self.step = self.charged = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is asked and nothing is due."""
        waits = self.waiting.stage is Stage.IDLE and not self.waiting.more
        return waits and not self.busy and self.out is None and not self.ending

    def receive(self) -> bytes | None:
        """The next bytes; None where there are none now, empty where the client sends no more.

        Raises:
            OSError: the connection is gone.
        """
        self.readable = False  # before we look: the poller may tell of an arrival behind it
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return None
        # Less than asked for: the kernel holds no more, unless the end of the stream is there too.
        if len(data) == READ_BYTES or self.half_closed:
            self.readable = True
        return data

    def send(self, data: bytes) -> None:
        """Send what the kernel takes now; the rest stays in `out`. Raises OSError."""
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self.out = memoryview(data)[sent:]

    def send_on(self) -> int:
        """Send more of what is left; how many bytes went. Raises OSError."""
        assert self.out is not None
        try:
            sent = self.sock.send(self.out)
        except BlockingIOError:
            return 0
        self.out = self.out[sent:] if sent < len(self.out) else None
        return sent

    def close(self) -> None:
        """Let go of the socket."""
        self.closed = True
        self.sock.close()
