"""Models that an operator loaded or unloaded, where that differs from the settings.

Load and unload calls change one small file beside the models (`registry/repository.json`), and
every worker follows it. It is durable: a model that was unloaded because it did harm stays unloaded
after a restart, until somebody loads it. Only differences from the settings are stored, so an old
call never overrides a setting that agrees with it.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from models.base.errors import RegistryError
from models.base.files import lock_file, write_atomic
from models.base.inside import open_folder

FILE = "repository.json"
MOST_BYTES = 1 << 22
Signature = tuple[int, int, int]


class Decisions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which models are served (true) or not (false), whatever the settings say.

    `calls` counts the load and unload calls. It changes the file with every call, so that every
    worker tries a failed model again at once.
    """

    calls: int = 0
    models: Mapping[str, bool] = msgspec.field(default_factory=dict)


class Repository:
    """The file. Safe for several processes on one machine (advisory lock)."""

    def __init__(self, root: Path) -> None:
        self._path = root / FILE

    def signature(self) -> Signature | None:
        """Return a value that changes with the file; None where there is no file."""
        return signature(self._path)

    def read(self) -> Decisions:
        """Read the decisions. Raises RegistryError where the file is damaged."""
        try:
            with open_folder(self._path.parent) as folder:
                data = folder.read(FILE, MOST_BYTES)
        except FileNotFoundError:
            return Decisions()
        try:
            return msgspec.json.decode(data, type=Decisions)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RegistryError(
                f"{self._path} is damaged ({error}): remove it, and load or unload again"
            ) from error

    def decide(self, model: str, loaded: bool, set_so: bool) -> None:
        """Store whether `model` is to be served; `set_so` is what the settings say.

        Raises:
            RegistryError: the file is damaged.
            OSError: it cannot be written.
        """
        with lock_file(self._path.with_name(f".{FILE}.lock")):
            now = self.read()
            decisions = {name: value for name, value in now.models.items() if name != model}
            if loaded != set_so:
                decisions[model] = loaded
            write_atomic(self._path, msgspec.json.encode(Decisions(now.calls + 1, decisions)))


def signature(path: Path) -> Signature | None:
    """Return a value that changes with the file at `path`; None where there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
