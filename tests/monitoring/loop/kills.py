"""Points at which a process of the loop may be killed or an error be raised, counted over a run.

The points are where something is kept: each step before it begins, after its work, and after its
record; each change of a job or of the registry, before and after. They are discovered by a run that
is killed at none.
"""

import errno
import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = "LOOP_POINTS"  # the variable that names where they are counted


def database_error(text: str) -> Exception:
    """An error of the database; a child that meets none does without its module."""
    from sqlalchemy.exc import OperationalError

    return OperationalError("", {}, Exception(text))


ERRORS: dict[str, Callable[[], Exception]] = {
    "KeyError": lambda: KeyError("champion"),
    "RuntimeError": lambda: RuntimeError("out of luck"),
    "full": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "database full": lambda: database_error("database or disk is full"),
    "locked": lambda: database_error("database is locked"),
}


def point(name: str) -> None:
    """Count a point, and die here if it is one that was asked for."""
    if FOLDER not in os.environ:
        return
    folder = Path(os.environ[FOLDER])
    with (folder / "points").open("a+") as points:
        fcntl.flock(points, fcntl.LOCK_EX)
        points.seek(0)
        number = len(points.readlines())
        points.write(f"{name}\n")
    raised = folder / f"raise-{number}"
    if raised.exists():
        error = ERRORS[raised.read_text()]
        raised.rename(folder / f"raised-{number}")
        raise error()
    wanted = folder / f"kill-{number}"
    if wanted.exists():
        wanted.rename(folder / f"killed-{number}")
        kill(wanted_victims(folder / f"killed-{number}"))
        signal.pause()  # until it is killed


def kill(processes: list[int]) -> None:
    """Kill them in this order, from a process that lives longer than they do."""
    if os.fork() == 0:
        os.setsid()
        for process in processes:
            os.kill(process, signal.SIGKILL)
        os._exit(0)


def wanted_victims(file: Path) -> list[int]:
    """Process numbers, in the order in which they die."""
    who = {"self": os.getpid(), "parent": os.getppid()}
    return [who[name] for name in file.read_text().split()]


def ask_for(folder: Path, number: int, victims: str = "self") -> None:
    """Have the process die that comes to this point: `self`, `parent`, or both in an order."""
    (folder / f"kill-{number}").write_text(victims)


def ask_error(folder: Path, number: int, error: str) -> None:
    """Have an error of `ERRORS` raised at this point, once."""
    (folder / f"raise-{number}").write_text(error)


def points(folder: Path) -> list[str]:
    """What was come by."""
    file = folder / "points"
    return file.read_text().splitlines() if file.exists() else []


def around(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with a point before it and one after."""

    def counted(*args: Any, **kwargs: Any) -> Any:
        point(f"before {name}")
        result = function(*args, **kwargs)
        point(f"after {name}")
        return result

    return counted


def install() -> None:
    """Count the points of this process from now on."""
    from dbos._sys_db import SystemDatabase

    from models.versions.registry import Registry
    from monitoring.loop.jobs import JobStore

    for owner, names in {
        SystemDatabase: ("record_operation_result", "update_workflow_outcome", "init_workflow"),
        JobStore: ("put", "advance", "ask", "answer", "expire", "end", "claim", "abandon"),
        Registry: ("promote", "withdraw", "rollback"),
    }.items():
        for name in names:
            wrapped = around(f"{owner.__name__}.{name}", getattr(owner, name))
            setattr(owner, name, wrapped)
