"""Chooses the numbers of workers and threads from the cores and memory of machine or container.

Measured (two cores, onnxruntime without spinning): a small network (0.6 MiB, 0.1 ms a row) is never
quicker with two threads of onnxruntime. One of the size of ResNet-18 (42 MiB) answers 8 rows in
46 ms instead of 74 at 1.2 times the CPU, if the second core is free. So each core gets a worker
first; onnxruntime gets more threads only with a big model and more cores than workers.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

LEAST_WORKERS = 2  # one that dies or is replaced leaves one that answers
MOST_WORKERS = 32
THREADS = 4  # some wait (feedback for its record, a slow client) while others work
BIG_MODEL_BYTES = 4 * 2**20
WORKER_BYTES = 120 * 2**20  # of a worker with a small model: 104 to 109 MiB measured
COPIES = 3  # of a model file: its session, and both sides of a swap
MEMORY_SHARE = 0.5  # of what there is, for the workers

NOUNS = ("worker", "thread", "thread")

Read = Callable[[str], str | None]


class Machine(NamedTuple):
    """The cores and memory that this process may use; `why` says where the figures come from."""

    cores: float
    memory_bytes: int
    why: str


class Sizing(NamedTuple):
    """What is started: workers, request threads of each, onnxruntime threads of each."""

    workers: int
    threads: int
    model_threads: int


def machine(read: Read | None = None, usable: int | None = None) -> Machine:
    """Find the cores and the memory that this process may use.

    Args:
        read: returns the text of a file, None where it is absent; default: this machine's files.
        usable: cores that this process may run on; default: what the system says.
    """
    read = read or _text
    usable = usable or _usable()
    folders = _folders(read("/proc/self/cgroup") or "")
    quotas = [quota for folder in folders if (quota := _quota(folder, read))]
    memory = [_total_memory(read), *(m for folder in folders if (m := _memory(folder, read)))]
    if quotas and min(quotas) < usable:
        return Machine(min(quotas), min(memory), f"cgroup quota {min(quotas):g} of {usable} cores")
    return Machine(usable, min(memory), f"{usable} usable core{'s' if usable > 1 else ''}")


def choose(
    here: Machine,
    models: dict[str, int],
    *,
    workers: int = 0,
    threads: int = 0,
    model_threads: int = 0,
) -> Sizing:
    """Fill in what is 0.

    >>> choose(Machine(2, 8 << 30, "2 usable cores"), {"digits": 600_000})
    Sizing(workers=2, threads=4, model_threads=1)
    >>> choose(Machine(8, 8 << 30, "8 usable cores"), {"large": 45 << 20}, workers=2)
    Sizing(workers=2, threads=4, model_threads=4)

    Args:
        here: the machine.
        models: bytes of the model file by model (`model_sizes`).
        workers: as set; 0: chosen.
        threads: as set; 0: chosen.
        model_threads: as set; 0: chosen.
    """
    workers = workers or _workers(here, models)
    if not model_threads:
        big = max(models.values(), default=0) >= BIG_MODEL_BYTES
        model_threads = max(1, int(here.cores / workers)) if big else 1
    return Sizing(workers, threads or THREADS, model_threads)


def words(sizing: Sizing) -> str:
    """Describe a sizing in words.

    >>> words(Sizing(2, 4, 1))
    '2 workers x 4 threads, onnxruntime 1 thread each'
    """
    names = [f"{n} {what}{'s' * (n > 1)}" for n, what in zip(sizing, NOUNS, strict=True)]
    return f"{names[0]} x {names[1]}, onnxruntime {names[2]} each"


def model_sizes(registry: Path) -> dict[str, int]:
    """Return the size in bytes of the largest model file of every model in the registry."""
    sizes: dict[str, int] = {}
    for path in registry.glob("*/*/model.onnx"):
        try:
            size = path.stat().st_size
        except OSError:
            continue  # a staging folder that has just got its number
        name = path.parent.parent.name
        sizes[name] = max(size, sizes.get(name, 0))
    return sizes


def _workers(here: Machine, models: dict[str, int]) -> int:
    each = WORKER_BYTES + COPIES * sum(models.values())
    fit = int(MEMORY_SHARE * here.memory_bytes / each)
    wished = max(LEAST_WORKERS, round(here.cores))
    return max(1, min(wished, fit, MOST_WORKERS))


def _usable() -> int:
    """Count the cores that this process may run on, as `os.process_cpu_count` of Python 3.13."""
    return len(os.sched_getaffinity(0))


def _folders(groups: str) -> list[str]:
    """Return the cgroup folders of this process and their parents, which also limit it (v1, v2)."""
    folders = []
    for line in groups.splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0":
            root = "/sys/fs/cgroup"
        elif names.split(",")[0] in ("cpu", "memory"):
            root = f"/sys/fs/cgroup/{names.split(',')[0]}"
        else:
            continue
        parts = [part for part in path.split("/") if part]
        folders += ["/".join([root, *parts[:k]]) for k in range(len(parts), -1, -1)]
    return folders


def _quota(folder: str, read: Read) -> float | None:
    """Return the cores that a cgroup may use; None: no limit."""
    text = read(f"{folder}/cpu.max")
    if text is None:
        text = f"{read(f'{folder}/cpu.cfs_quota_us')} {read(f'{folder}/cpu.cfs_period_us')}"
    words = text.split()
    if len(words) != 2 or not all(word.isdigit() for word in words):
        return None  # `max`, -1, or no such file
    return int(words[0]) / int(words[1])


def _memory(folder: str, read: Read) -> int | None:
    text = read(f"{folder}/memory.max") or read(f"{folder}/memory.limit_in_bytes") or ""
    return int(text) if text.strip().isdigit() else None


def _total_memory(read: Read) -> int:
    for line in (read("/proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
