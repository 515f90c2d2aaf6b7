"""The tutorials, executed: every block of `sh` and `python`, in order, in an empty folder."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.base.processes import ends_with_parent
from tests.e2e.stack import TRAINS_SECONDS, Stack
from tests.ops import ROOT

TUTORIALS = ROOT / "docs" / "tutorials"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SERVER = re.compile(r"(?:(\w+=\w+) )?holdfast demo")  # of a terminal of its own
PARTS = {"sh": ["bash", "-e", "-u", "-o", "pipefail", "-c"], "python": [sys.executable, "-c"]}


def blocks(name: str) -> Iterator[tuple[str, str]]:
    """Language and text of each block."""
    for block in BLOCK.finditer((TUTORIALS / name).read_text(encoding="utf-8")):
        yield block[1], block[2].strip()


class Reader:
    """Somebody who follows a tutorial: terminals in one folder, on ports of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = Stack(folder / "state", {"HOLDFAST_COOL_DOWN_SECONDS": "5"})
        self.servers: list[subprocess.Popen[bytes]] = []
        tools = folder.parent / "bin"
        tools.mkdir()
        program = tools / "holdfast"  # `python -m service`, as the checkout has it
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m service "$@"\n')
        program.chmod(0o755)
        path = f"{tools}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.env = {**self.stack.env, "PATH": path, "PYTHONPATH": str(ROOT)}

    def follow(self, language: str, text: str) -> None:
        """Do what a block says. Fails where it fails."""
        if server := SERVER.fullmatch(text):
            self._serve(server[1])
            return
        here = text.replace("127.0.0.1:8080", f"127.0.0.1:{self.stack.port}")
        here = here.replace("127.0.0.1:9108", f"127.0.0.1:{self.stack.watch_port}")
        done = subprocess.run(
            [*PARTS[language], here], cwd=self.folder, env=self.env, capture_output=True, text=True,
            timeout=TRAINS_SECONDS, preexec_fn=ends_with_parent(signal.SIGTERM),
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n--- ended with {done.returncode}\n{self.said(done)}"

    def said(self, done: "subprocess.CompletedProcess[str]") -> str:
        log = self.folder.parent / "server.log"
        return done.stdout + done.stderr + (log.read_text()[-2000:] if log.exists() else "")

    def _serve(self, setting: str | None) -> None:
        name, _, value = (setting or "").partition("=")
        program = self.folder.parent / "bin" / "holdfast"
        with (self.folder.parent / "server.log").open("ab") as log:
            server = subprocess.Popen(
                [program, "demo"], cwd=self.folder, env=self.env | ({name: value} if name else {}),
                stdout=log, stderr=log, start_new_session=True,
                preexec_fn=ends_with_parent(signal.SIGTERM),
            )  # fmt: skip
        self.servers.append(server)

    def leave(self) -> None:
        """Close the terminals."""
        for server in self.servers:
            server.send_signal(signal.SIGINT)
            server.wait(60)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """A reader in an empty folder."""
    (tmp_path / "empty").mkdir()
    reading = Reader(tmp_path / "empty")
    try:
        yield reading
    finally:
        reading.leave()


def test_every_tutorial_has_its_test() -> None:
    names = {path.name for path in TUTORIALS.glob("*.md")}
    assert names == {"call-it.md", "train-or-wrap.md", "on-call.md", "own-it.md"}
    assert all(len(list(blocks(name))) >= 5 for name in names)


def test_an_application_developer_can_call_it(trained_state: Path, reader: Reader) -> None:
    shutil.copytree(trained_state, reader.folder / "state")  # the minute of training was before
    for language, text in blocks("call-it.md"):
        reader.follow(language, text)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train-or-wrap.md", "on-call.md", "own-it.md"])
def test_the_others_can_follow_their_tutorials(name: str, reader: Reader) -> None:
    for language, text in blocks(name):
        reader.follow(language, text)
