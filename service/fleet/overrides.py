"""What an operator wants served beside, or against, what the settings say.

One small file beside the models (`registry/repository.json`), changed by load and unload calls,
followed by every worker. It is durable: what was unloaded because it harmed stays unloaded when the
service, its machine or its container is started again, until somebody loads it. Only what differs
from the settings is kept, so a changed setting is never held back by an old call that it confirms.
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
    """Which models are served (true) or not (false) whatever the settings say.

    `calls` counts the load and unload calls: it changes the file also where nothing else does, so
    that every worker tries a model again that it had given up for a while.
    """

    calls: int = 0
    models: Mapping[str, bool] = msgspec.field(default_factory=dict)


class Repository:
    """The file. Safe for several processes on one machine (advisory lock)."""

    def __init__(self, root: Path) -> None:
        self._path = root / FILE

    def signature(self) -> Signature | None:
        """What changes when the file does; None where there is none."""
        return signature(self._path)

    def read(self) -> Decisions:
        """The decisions now. Raises RegistryError where the file is damaged."""
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
        """Keep that `model` is wanted or not; `set_so` is what the settings say of it.

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
    """What changes when the file at `path` does; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
