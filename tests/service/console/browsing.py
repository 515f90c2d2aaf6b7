"""An application behind a real port, for a real browser; what a screen reader finds in a page."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from service.app import Application
from tests.asgi import ask
from tests.chromium import Page

CONTROLS = (
    "button", "link", "textbox", "combobox", "slider", "checkbox", "img", "application",
    "progressbar", "tab", "spinbutton", "region",
)  # fmt: skip


@contextmanager
def listening(app: Application) -> Iterator[str]:
    """The address under which the application answers, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = [(k, v) for k, v in self.headers.items() if k.lower() != "accept-encoding"]
            answer = ask(app, self.command, self.path, headers, body)
            self.send_response_only(answer.status)
            for name, value in answer.headers:
                if name.lower() != "content-length":
                    self.send_header(name, value)
            if answer.status != 304:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = _answer

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def find_nameless(page: Page) -> list[str]:
    """Roles of the controls and pictures of a page that a screen reader has no name for."""
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    by_id = {node["nodeId"]: node for node in nodes}

    def is_named(node: dict[str, Any]) -> bool:
        return bool(node.get("name", {}).get("value", "").strip())

    def is_part_of_a_button(node: dict[str, Any]) -> bool:
        parent = by_id.get(node.get("parentId", ""), {})
        return parent.get("role", {}).get("value") == "button" and is_named(parent)

    return [
        node["role"]["value"]
        for node in nodes
        if not node.get("ignored")
        and node.get("role", {}).get("value") in CONTROLS
        and not is_named(node)
        and not is_part_of_a_button(node)
    ]
