"""Child processes: what they import, where they may write, and that they end with their parent."""

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
    """A `preexec_fn`: on Linux the kernel sends `number` once the parent is gone."""

    def ask_the_kernel() -> None:
        if _LIBC is not None:
            _LIBC.prctl(PR_SET_PDEATHSIG, number)

    return ask_the_kernel


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process once its parent is gone; at once where it is already.

    For a process that was forked: an orphan would go on with the locks and ports that it holds.
    """
    ends_with_parent(signal.SIGKILL)()
    if os.getppid() != parent:
        os._exit(1)


def child_environment() -> dict[str, str]:
    """The environment for `python -m` one of our modules: ours is imported, whatever lies around.

    `python -m` searches the working directory first, where a `models.py` or a `json.py` of the
    user's may lie; the safe path leaves it out, for the child and for what it starts in turn. A
    checkout that is not installed is then named, as nothing else leads to it.

    >>> child_environment()["PYTHONSAFEPATH"]
    '1'
    """
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    if ROOT not in _lasting_path():
        before = os.environ.get("PYTHONPATH")
        environment["PYTHONPATH"] = ROOT if not before else f"{ROOT}{os.pathsep}{before}"
    return environment


def prepare_process(state: Path) -> None:
    """See to it that this process and its children can write what they must, and share it.

    What they make in the state can be used by its group where that is meant
    (`models.base.files.shared_with_group`). Where no folder for temporary files can be written to
    (a container may have a read-only root without `/tmp`), `TMPDIR` is one in the state.

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
    """Where gunicorn's workers keep the file by which the master sees that they live.

    In memory where that can be written to: on a disk that hangs, workers that are well would be
    taken for dead.
    """
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK | os.X_OK):
        return str(MEMORY)
    folder = state.absolute() / "run"
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def _lasting_path() -> list[str]:
    """The part of `sys.path` that a child in safe path has as well."""
    here = sys.path if sys.flags.safe_path else sys.path[1:]
    return [*here, *site.getsitepackages(), site.getusersitepackages()]
