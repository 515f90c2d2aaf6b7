"""A real PostgreSQL server for as long as a test lasts; it can be paused and go on."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.ops import free_port
from tests.waiting import PATIENCE_SECONDS, wait_until

USER = "nobody"  # the server refuses to run as root


class Postgres:
    """A running server."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        self.url = f"postgresql://holdfast@127.0.0.1:{port}/postgres"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to accept connections; returns when it does."""
        command = [_binary("postgres"), "-D", str(self._folder / "data"), "-k", str(self._folder)]
        command += ["-p", str(self._port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **_as_user())
        ready = [_binary("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        try:
            wait_until(lambda: subprocess.call(ready) == 0, what="PostgreSQL accepts connections")
        except AssertionError:
            print((self._folder / "log").read_text()[-2000:])
            raise

    def pause(self) -> None:
        """Stop every process of the server where it is: connections stay, nothing answers."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let the processes go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the server at once."""
        if self._process is not None:
            self.go_on()
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        for each in [parent, *parent.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(number)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A fresh server; the test is skipped where none is installed."""
    if not _binary("initdb"):
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory() as name:
        if os.getuid() == 0:
            os.chown(name, pwd.getpwnam(USER).pw_uid, -1)
        command = [_binary("initdb"), "-D", f"{name}/data", "-U", "holdfast", "-A", "trust", "-N"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **_as_user())
        server = Postgres(Path(name), free_port())
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _binary(name: str) -> str:
    found = shutil.which(name) or next(iter(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), "")
    return str(found)


def _as_user() -> dict[str, Any]:
    return {"user": USER, "cwd": "/"} if os.getuid() == 0 else {}
