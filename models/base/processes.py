"""Child processes: their import path, their temporary files, and their end with the parent."""

import ctypes
import os
import signal
import site
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import models
from models.base.files import share_with_group

PR_SET_PDEATHSIG = 1
MEMORY = Path("/dev/shm")
ROOT = str(Path(models.__file__).parent.parent)
# Loaded here: between fork and exec nothing may be imported or looked up.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def ends_with_parent(number: signal.Signals) -> Callable[[], None]:
    """Return a `preexec_fn`: on Linux the kernel sends `number` when the parent is gone."""

    def ask_the_kernel() -> None:
        if _LIBC is not None:
            _LIBC.prctl(PR_SET_PDEATHSIG, number)

    return ask_the_kernel


def end_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent is gone; exit now if it is gone already.

    This is for a forked process: an orphan would keep its locks and ports.
    """
    ends_with_parent(signal.SIGKILL)()
    if os.getppid() != parent:
        os._exit(1)


def child_environment() -> dict[str, str]:
    """Return the environment for `python -m` with one of our modules.

    `python -m` searches the working directory first, where a user may have a `models.py` or a
    `json.py`. The safe path leaves it out, for the child and for its own children. A checkout that
    is not installed is then named in PYTHONPATH.

    >>> child_environment()["PYTHONSAFEPATH"]
    '1'
    """
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    if ROOT not in _lasting_path():
        before = os.environ.get("PYTHONPATH")
        environment["PYTHONPATH"] = ROOT if not before else f"{ROOT}{os.pathsep}{before}"
    return environment


def prepare_process(state: Path) -> None:
    """Make sure that this process and its children can write their files, and share them.

    Files in the state are shared with the group where `models.base.files.shared_with_group` says
    so. If no folder for temporary files is writable (a container may have a read-only root without
    `/tmp`), `TMPDIR` becomes a folder in the state.

    Raises:
        OSError: a folder in the state is needed and cannot be made.
    """
    share_with_group(state)
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        folder = state.absolute() / "run" / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def heartbeat_folder(state: Path) -> str:
    """Return the folder of the files by which gunicorn's master sees that its workers live.

    It is in memory if possible: with a hanging disk the master would take healthy workers for dead.
    """
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK | os.X_OK):
        return str(MEMORY)
    folder = state.absolute() / "run"
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def _lasting_path() -> list[str]:
    """Return the part of `sys.path` that a child with the safe path has as well."""
    here = sys.path if sys.flags.safe_path else sys.path[1:]
    return [*here, *site.getsitepackages(), site.getusersitepackages()]
