"""Files by which one service and its watchers hold a state directory."""

import uuid
from pathlib import Path
from typing import IO

from sqlalchemy.engine import make_url

from models.base import locks
from models.base.files import lock_file, write_atomic
from service.configuration.settings import Settings


def service_lock(settings: Settings) -> Path:
    """The lock that one service holds on its state directory."""
    return settings.metrics_dir / "service.lock"


def watcher_lock(settings: Settings) -> Path:
    """The lock that a watcher holds on its state directory."""
    return Path(settings.state) / "watcher.lock"


def shares_state(settings: Settings) -> bool:
    """Whether several watchers may run on the state: where PostgreSQL says which one leads."""
    return make_url(settings.database_url).get_backend_name() == "postgresql"


def try_watcher_lock(settings: Settings) -> IO[bytes] | None:
    """Hold the state directory as its watcher, or as one of several; None where that cannot be."""
    take = locks.try_shared if shares_state(settings) else locks.try_exclusive
    return take(watcher_lock(settings))


def state_id(settings: Settings) -> str:
    """What tells this state directory from others, under whatever path; made at the first use."""
    path = Path(settings.state) / "watcher.id"
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock_file(path.with_name(".watcher.id.lock")):
        if not path.exists():
            write_atomic(path, uuid.uuid4().hex.encode())
        return path.read_text()
