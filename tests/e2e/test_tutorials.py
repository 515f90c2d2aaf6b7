"""The tutorials, executed: every block of `sh` and `python`, in order, in an empty folder."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from models.base.processes import ends_with_parent
from tests.e2e.stack import TRAINS_SECONDS, Stack
from tests.ops import ROOT

TUTORIALS = ROOT / "docs" / "tutorials"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SERVER = re.compile(r"(?:(\w+=\w+) )?holdfast demo")  # of a terminal of its own
UNTIL = re.compile(r"^until (.*); do sleep", re.MULTILINE)
PARTS = {"sh": ["bash", "-e", "-u", "-c"], "python": [sys.executable, "-c"]}


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
        self.sessions: list[int] = []  # of blocks: what they started beside them may go on
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
        status, said = self.run(language, here)
        assert status == 0, f"{text}\n--- ended with {status}\n{said}\n{self.log()}"

    def run(self, language: str, text: str) -> tuple[int, str]:
        """Status and output of a block, in a session of its own, which `leave` ends."""
        with tempfile.TemporaryFile("w+") as output:  # no pipe: what it leaves behind may hold it
            process = subprocess.Popen(
                [*PARTS[language], text], cwd=self.folder, env=self.env, stdout=output,
                stderr=output, start_new_session=True,
                preexec_fn=ends_with_parent(signal.SIGTERM),
            )  # fmt: skip
            self.sessions.append(process.pid)
            status = process.wait(TRAINS_SECONDS)
            output.seek(0)
            return status, output.read()

    def log(self) -> str:
        log = self.folder.parent / "server.log"
        return log.read_text()[-2000:] if log.exists() else ""

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
        """Close the terminals, and end what was left running in them."""
        for session in self.sessions:
            with suppress(ProcessLookupError):
                os.killpg(session, signal.SIGTERM)
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
    waits = [text for _, text in blocks("on-call.md") for text in UNTIL.findall(text)]
    assert len(waits) == 3
    for condition in waits[1:]:  # the first is that it answers
        status, said = reader.run("sh", condition)
        assert status == 1, f"true before anything moved: {condition}\n{said}"


def test_what_a_block_leaves_running_ends_with_the_reader(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    reading = Reader(tmp_path / "empty")
    status, said = reading.run("sh", "sleep 900 & echo $!")
    assert status == 0
    left = psutil.Process(int(said))
    reading.leave()
    left.wait(60)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train-or-wrap.md", "on-call.md", "own-it.md"])
def test_the_others_can_follow_their_tutorials(name: str, reader: Reader) -> None:
    for language, text in blocks(name):
        reader.follow(language, text)
