"""Many connections that send a request one byte at a time and never end it.

Keeps COUNT connections open for SECONDS: each sends a byte every few seconds; one that the server
ends is opened again. Prints what happened to them as JSON.

    python -m benchmarks.slow_clients PORT COUNT SECONDS
"""

import json
import select
import socket
import sys
import time
from collections import deque

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
BYTE_SECONDS = 5.0
OPENING = 400  # at once


class Slow:
    """The connections; `counts` are totals."""

    def __init__(self, port: int, count: int) -> None:
        self._address, self._count = ("127.0.0.1", port), count
        self._poller = select.epoll()
        self._links: dict[int, socket.socket] = {}
        self._opening: set[int] = set()
        self._due: deque[tuple[float, int]] = deque()
        self.counts = {"opened": 0, "told_408": 0, "ended": 0, "reset": 0}
        self.most_open = 0

    def run(self, seconds: float) -> None:
        """Keep them open."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._open()
            for number, event in self._poller.poll(0.05):
                self._on_event(number, event)
            self._send_due()
            self.most_open = max(self.most_open, len(self._links) - len(self._opening))
        for link in self._links.values():
            link.close()

    def _open(self) -> None:
        while len(self._links) < self._count and len(self._opening) < OPENING:
            link = socket.socket()
            link.setblocking(False)
            link.connect_ex(self._address)
            self._links[link.fileno()] = link
            self._opening.add(link.fileno())
            self._poller.register(link, select.EPOLLOUT)

    def _on_event(self, number: int, event: int) -> None:
        link = self._links[number]
        try:
            if number in self._opening:
                self._opening.discard(number)
                link.send(HEAD)
                self.counts["opened"] += 1
                self._poller.modify(link, select.EPOLLIN)
                self._due.append((time.monotonic() + BYTE_SECONDS, number))
                return
            data = link.recv(4096)
            self.counts["told_408"] += data.startswith(b"HTTP/1.1 408 ")
            if data:
                return
            self.counts["ended"] += 1
        except OSError:
            self.counts["reset"] += 1
        del self._links[number]
        link.close()

    def _send_due(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            _, number = self._due.popleft()
            link = self._links.get(number)
            if link is None or number in self._opening:
                continue  # its number may be another connection's by now: that one has its own turn
            try:
                link.send(b"a")
            except OSError:
                continue  # its event says so
            self._due.append((now + BYTE_SECONDS, number))


def main() -> None:
    port, count, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    slow = Slow(port, count)
    slow.run(seconds)
    print(json.dumps({**slow.counts, "most_open": slow.most_open}))


if __name__ == "__main__":
    main()
