"""Peers to measure against, each in a folder of its own: nothing of theirs is installed here."""

import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parents[1] / ".bench"


def add_peer(name: str, *requirements: str) -> None:
    """Make a peer importable: installed once into `.bench/<name>`, without what it depends on."""
    folder = PEERS / name
    if not folder.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*command, "--target", str(folder), *requirements], check=True)
    sys.path.append(str(folder))
