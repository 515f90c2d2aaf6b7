"""Checks of what runs: service and watcher, who holds their locks, and where telemetry goes."""

import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from service.cli.checks.findings import Finding, failed, noted, passed
from service.cli.serve import ask_ready
from service.configuration import sizing
from service.configuration.addresses import near, url_of
from service.configuration.settings import PREFIX, Settings
from service.configuration.state_locks import service_lock, watcher_lock
from service.telemetry.metrics import read_wanted
from service.telemetry.tracing import find_collector
from service.web.errors import SettingsError

CONNECT_SECONDS = 2.0
LOCKS = Path("/proc/locks")
ELSEWHERE = "look for it on the machine itself, or in the containers that mount this state"


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
        if status == "does not answer" and (holder := holder_of(lock)) is not None:
            fix = f"ps -fp {holder}; if it hangs: kill {holder}, then kill -9 {holder}"
            yield failed(
                f"lock of the {name}",
                f"{_name(holder)} holds {lock} and does not answer at {url}: it hangs, or "
                "listens elsewhere (HOLDFAST_PORT, HOLDFAST_WATCH_PORT)",
                fix if holder else ELSEWHERE,
            )
    yield _check_slots(settings)


def check_telemetry(settings: Settings) -> Iterator[Finding]:
    """Whether somebody listens where traces are sent; without it they are lost, nothing else."""
    try:
        collector = find_collector(settings.trace_endpoint, os.environ)
        sent = read_wanted(os.environ)
    except SettingsError as error:
        yield noted("telemetry", f"nothing is sent: {error}", f"correct {error.name}")
        return
    metrics = "metrics at /metrics"
    if sent is not None:
        metrics += f", and sent by OTLP every {sent.interval_seconds:g} s"
    if collector is None:
        yield passed("telemetry", f"{metrics}; traces go nowhere")
        return
    try:
        address = urlsplit(collector.address)
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname or "", port), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        fix = f"start the collector, or correct or empty {variable_of(collector.named_by)}"
        reason = getattr(error, "strerror", None) or error
        yield noted("telemetry", f"nobody listens at {collector.address}: {reason}", fix)
        return
    yield passed("telemetry", f"{metrics}; traces go to {collector.address}")


def variable_of(name: str) -> str:
    """The variable of a setting; OpenTelemetry's own are variables already.

    >>> variable_of("trace_endpoint"), variable_of("OTEL_METRICS_EXPORTER")
    ('HOLDFAST_TRACE_ENDPOINT', 'OTEL_METRICS_EXPORTER')
    """
    return name if name.isupper() else f"{PREFIX}{name.upper()}"


def holder_of(lock: Path) -> int | None:
    """The process that holds a file lock (Linux); None if nobody does. Makes no file.

    A holder that cannot be named (of another container) is 0.
    """
    if not lock.exists():
        return None
    with lock.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # watchers may share it
        except BlockingIOError:
            return _holder(lock.stat().st_ino)
    return None


def _check_slots(settings: Settings) -> Finding:
    """Whether a worker is left over that no service leads: it keeps its slot and its memory."""
    what, folder = "worker slots", settings.metrics_dir
    if holder_of(service_lock(settings)) is not None:
        return passed(what, "held by the workers of the running service")
    holders = {path: holder_of(path) for path in sorted(folder.glob("slot-*.lock"))}
    held = {path: pid for path, pid in holders.items() if pid is not None}
    if not held:
        return passed(what, "none is held")
    pids = sorted(set(held.values()))
    named = ", ".join(path.name for path in held)
    detail = f"{named}: held by {', '.join(map(_name, pids))}, which no service leads"
    known = [str(pid) for pid in pids if pid]
    fix = f"ps -fp {','.join(known)}; if they are old: kill {' '.join(known)}"
    return failed(what, detail, fix if known else ELSEWHERE)


def _name(pid: int) -> str:
    return f"process {pid}" if pid else "a process of another container"


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
