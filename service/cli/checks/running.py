"""Checks of what runs: service and watcher, who holds their locks, and where telemetry goes."""

import fcntl
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from service.cli.checks.findings import Finding, failed, noted, passed
from service.cli.serve import ask_ready
from service.configuration import sizing
from service.configuration.addresses import near, url_of
from service.configuration.settings import Settings
from service.configuration.state_locks import service_lock, watcher_lock

CONNECT_SECONDS = 2.0
LOCKS = Path("/proc/locks")


def check_sizing(settings: Settings) -> Finding:
    """How many workers and threads serve, and why."""
    here, sizes = sizing.machine(), sizing.model_sizes(settings.registry_dir)
    by_default = sizing.choose(here, sizes)
    set_to = sizing.Sizing(settings.workers, settings.threads, settings.model_threads)
    detail = f"{sizing.words(set_to)} ({here.why}, {here.memory_bytes / 2**30:.1f} GiB)"
    if set_to != by_default:
        detail += f"; set so, left out it would be {sizing.words(by_default)}"
    return passed("workers and threads", detail)


def check_running(settings: Settings) -> Iterator[Finding]:
    """Whether service and watcher answer, and whether a process without one holds a slot."""
    parts = (
        ("service", url_of(near(settings.host), settings.port), service_lock(settings), "serve"),
        ("watcher", url_of(near(settings.watch_host), settings.watch_port),
         watcher_lock(settings), "watch"),
    )  # fmt: skip
    for name, url, lock, command in parts:
        there, status = ask_ready(url)
        if there:
            yield passed(name, f"{url}/readyz")
            continue
        yield noted(name, f"{url}/readyz {status}", f"holdfast {command}, or holdfast up for both")
        if status == "does not answer" and (holder := holder_of(lock)):
            yield failed(
                f"lock of the {name}",
                f"process {holder} holds {lock} and does not answer at {url}: it hangs, or "
                "listens elsewhere (HOLDFAST_PORT, HOLDFAST_WATCH_PORT)",
                f"ps -fp {holder}; if it hangs: kill {holder}, and kill -9 {holder} after a minute",
            )
    yield _check_slots(settings)


def check_telemetry(settings: Settings) -> Iterator[Finding]:
    """Whether somebody listens where traces are sent; without it they are lost, nothing else."""
    if not settings.trace_endpoint:
        yield passed("telemetry", "metrics at /metrics; traces go nowhere")
        return
    address = urlsplit(settings.trace_endpoint)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), CONNECT_SECONDS).close()
    except OSError as error:
        fix = "start the collector, or correct or empty HOLDFAST_TRACE_ENDPOINT"
        detail = f"nobody listens at {settings.trace_endpoint}: {error.strerror or error}"
        yield noted("telemetry", detail, fix)
        return
    yield passed("telemetry", f"traces go to {settings.trace_endpoint}")


def holder_of(lock: Path) -> int | None:
    """The process that holds a file lock (Linux); None if nobody does. Makes no file.

    A holder that cannot be named (another user's namespace) is 0.
    """
    if not lock.exists():
        return None
    with lock.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(lock.stat().st_ino)
    return None


def _check_slots(settings: Settings) -> Finding:
    """Whether a worker is left over that no service leads: it keeps its slot and its memory."""
    what, folder = "worker slots", settings.metrics_dir
    if holder_of(service_lock(settings)) is not None:
        return passed(what, "held by the workers of the running service")
    held = {path: pid for path in sorted(folder.glob("slot-*.lock")) if (pid := holder_of(path))}
    if not held:
        return passed(what, "none is held")
    pids = " ".join(sorted({str(pid) for pid in held.values()}))
    named = ", ".join(path.name for path in held)
    detail = f"{named}: held by processes {pids}, which no service leads"
    return failed(what, detail, f"ps -fp {pids.replace(' ', ',')}; if they are old: kill {pids}")


def _holder(inode: int) -> int:
    """As /proc/locks has it: `1: FLOCK ADVISORY WRITE 1234 08:01:5678 0 EOF`."""
    try:
        lines = LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    for line in lines:
        words = line.split()
        if len(words) >= 6 and words[-3].rpartition(":")[2] == str(inode) and "->" not in words:
            return int(words[-4])
    return 0
