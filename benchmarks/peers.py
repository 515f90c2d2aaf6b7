"""Peers to measure against, each in a folder of its own: nothing of theirs is installed here."""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

PEERS = Path(__file__).parents[1] / ".bench"


class PeerError(Exception):
    """A peer cannot be had here; the text says why."""


def add_peer(name: str, *requirements: str) -> None:
    """Make a peer importable: installed once into `.bench/<name>`, without what it depends on."""
    folder = PEERS / name
    if not folder.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*command, "--target", str(folder), *requirements], check=True)
    sys.path.append(str(folder))


def environment(name: str, *requirements: str) -> Path:
    """A virtual environment of a peer with all that it needs, made once; gives its folder.

    Raises:
        PeerError: it cannot be installed.
    """
    folder = PEERS / name
    made = folder / "made-of.txt"
    wanted = "\n".join(requirements)
    if made.exists() and made.read_text() == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input"]
    done = subprocess.run([*command, *requirements], capture_output=True, text=True, check=False)
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise PeerError("; ".join(reasons) or f"pip ended with {done.returncode}")
    made.write_text(wanted)
    return folder
