"""How much memory there is, asked before data is decoded."""

from pathlib import Path, PurePosixPath

from models.base.errors import DataError

ROOT = Path("/")
MARGIN = 64 << 20  # bytes that decoding itself may take


def require(needed: int, what: str, root: Path = ROOT) -> None:
    """Refuse to start what does not fit.

    Args:
        needed: bytes that the arrays take.
        what: the data, for the message.
        root: where `proc` and `sys` lie.

    Raises:
        DataError: says how much is needed and how much is there.
    """
    available = available_bytes(root)
    if available is not None and needed + MARGIN > available:
        raise DataError(
            f"{what}: decoded it takes about {_size(needed)} of memory, and {_size(available)} is "
            "available; take fewer or smaller rows, or a machine (or container limit) with more "
            "(training and evaluation need all rows at once; only `holdfast score` reads a file in "
            "pieces)"
        )


def available_bytes(root: Path = ROOT) -> int | None:
    """Bytes that this process can still get: the least of the machine's and its control groups'.

    None where the system does not say (no /proc). Page cache that a group can give back counts as
    available. Source: proc(5), Control Group v2 (memory.max, memory.current, memory.stat).
    """
    rooms = [_machine(root)]
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount, names = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        # Inside a container the group's own folder may be the mount: its parents end there.
        own = PurePosixPath(path.lstrip("/"))
        rooms += [_group(mount / folder, *names) for folder in (own, *own.parents)]
    known = [room for room in rooms if room is not None]
    return min(known) if known else None


def _machine(root: Path) -> int | None:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _group(folder: Path, limit_name: str, usage_name: str) -> int | None:
    limit, usage = _lines(folder / limit_name), _lines(folder / usage_name)
    if not limit or not usage or not limit[0].isdigit():  # "max": no limit
        return None
    stat = dict(line.split() for line in _lines(folder / "memory.stat"))
    cache = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
    return max(int(limit[0]) - max(int(usage[0]) - cache, 0), 0)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux, or another version of control groups
        return []


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
