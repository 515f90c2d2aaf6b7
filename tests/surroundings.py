"""Surroundings that notice what a process does unasked: calls to the outside, and files.

A fresh home and temporary folder, a proxy in every spelling that environments know, which writes
down who calls it, and a hook in every Python process, which writes down connections, names that
are looked up, and what onnxruntime found in the environment when it was imported.
"""

import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.ops import ROOT

SPELLINGS = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
# Runs in every Python process before anything else; one line each, whole: O_APPEND.
HOOK = """
import os, sys
_LOG = os.open(os.environ["SEEN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def _hook(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        found = args[1] if event != "socket.getaddrinfo" else args[:2]
        os.write(_LOG, f"{event} {found}\\n".encode())
    elif event == "import" and args[0] in ("onnxruntime", "models", "monitoring", "service"):
        quiet = os.environ.get("ORT_DISABLE_TELEMETRY")
        os.write(_LOG, f"import {args[0]} {quiet} {os.getpid()} {sys.orig_argv[-1]}\\n".encode())
sys.addaudithook(_hook)
"""


@dataclass(frozen=True)
class Surroundings:
    """Where a command runs, and what was seen of it."""

    folder: Path
    proxy: str
    calls: list[bytes] = field(default_factory=list)  # the first bytes that the proxy was sent

    @property
    def here(self) -> Path:
        """The working directory."""
        return self.folder / "here"

    def environment(self, **settings: str) -> dict[str, str]:
        """Of a command: nothing of the caller's but the path."""
        at = {
            name: str(self.folder / "home" / below)
            for name, below in (
                ("HOME", ""), ("XDG_CACHE_HOME", "cache"), ("XDG_CONFIG_HOME", "config"),
                ("XDG_DATA_HOME", "data"), ("XDG_STATE_HOME", "state"), ("TMPDIR", "../tmp"),
            )
        }  # fmt: skip
        return {
            "PATH": os.environ["PATH"],
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join((str(self.folder / "hook"), str(ROOT))),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SEEN": str(self.folder / "seen"),
            **at,
            **dict.fromkeys(SPELLINGS, self.proxy),
            **settings,
        }

    def run(self, *command: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        """Run Python with these arguments to its end."""
        return subprocess.run(
            [sys.executable, *command], env=self.environment(**settings), cwd=self.here,
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip

    def seen(self, event: str) -> list[str]:
        """What Python's processes did: `socket.connect`, `socket.getaddrinfo`, `import`, ..."""
        path = self.folder / "seen"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.partition(" ")[2] for line in lines if line.startswith(f"{event} ")]

    def imported(self, package: str) -> list[str]:
        """Of every import of a package: the variable's value, process id, last argument."""
        kept = [line.partition(" ") for line in self.seen("import")]
        return [rest for name, _, rest in kept if name == package]

    def files(self) -> list[str]:
        """What was left in home, temporary folder and working directory."""
        return sorted(
            str(path.relative_to(self.folder))
            for part in ("home", "tmp", "here")
            for path in (self.folder / part).rglob("*")
            if path.is_file()
        )


@contextmanager
def surroundings(folder: Path) -> Iterator[Surroundings]:
    """Fresh ones below `folder`; the proxy answers as long as the block lasts."""
    for name in ("home", "tmp", "here", "hook"):
        (folder / name).mkdir(parents=True)
    (folder / "hook" / "sitecustomize.py").write_text(HOOK)
    calls: list[bytes] = []

    class Note(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(5)
            calls.append(self.request.recv(200))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Note) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        address: Any = server.server_address
        try:
            yield Surroundings(folder, f"http://127.0.0.1:{address[1]}", calls)
        finally:
            server.shutdown()
            thread.join()
