"""Who is on call in tests: a webhook that keeps every alert of every notification, as it came.

people = People()
with receiving(people) as url:
    ops.render_alertmanager(folder, watcher_port=port, token="x", people_url=url)
    ...
    wait_until(lambda: people.has("HoldfastDrift", "firing"))
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class People:
    """The people on call, and what they were told."""

    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []

    @property
    def told(self) -> list[tuple[str, str]]:
        """Name and status of every alert, in the order in which it came."""
        return [(each["labels"]["alertname"], each["status"]) for each in self.alerts]

    def has(self, name: str, status: str) -> bool:
        """Whether they were told."""
        return (name, status) in self.told

    def of(self, name: str) -> list[dict[str, Any]]:
        """What they were told of an alert."""
        return [each for each in self.alerts if each["labels"]["alertname"] == name]


@contextmanager
def receiving(people: People) -> Iterator[str]:
    """Take what Alertmanager posts until the block ends; the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            people.alerts += body["alerts"]
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the tests' output free of requests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
