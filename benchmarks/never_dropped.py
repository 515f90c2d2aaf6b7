"""Does a request get lost, or answered by another version than it says, whatever happens?

Real clients against a real service of two workers: champion swaps, reloads (HUP), recycling
(max_requests), stopping (SIGTERM) and killed workers; then connections that send slowly. Prints a
table of requests, losses and latencies, and one of the slow connections.

    python -m benchmarks.never_dropped [--quick] [--slow-connections N] [--json FILE]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.service import campaign
from tests.service.campaign import Books, Clients, Truth
from tests.service.processes import Running, running

Row = dict[str, Any]
PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")


def row(what: str, books: Books, quiet_ms: float | None, during_ms: float | None) -> Row:
    """A line of the table."""
    versions = ", ".join(map(str, sorted(books.versions)))
    found: Row = {
        "what": what, "requests": books.sent, "failed": len(books.failed), "wrong": books.wrong,
        "resets": books.resets, "versions": versions,
    }  # fmt: skip
    if quiet_ms and during_ms:
        found |= {
            "quiet_ms": round(quiet_ms, 2),
            "during_ms": round(during_ms, 2),
            "ratio": round(during_ms / quiet_ms, 2),
        }
    for problem in books.failed[:5]:
        print(f"{what}: {problem}", file=sys.stderr)
    return found


def disturbed(
    what: str, server: Running, truth: Truth, disturb: Callable[[], None], **options: Any
) -> Row:
    """Quiet requests, the same clients while it happens, and quiet ones again."""
    with campaign.clients(server, truth, **options) as clients:
        quiet, during = campaign.quiet_then(server, clients, disturb, 400)
        clients.wait(50)
    return row(what, clients.books, quiet, during)


def recycled(server: Running, truth: Truth, count: int) -> Row:
    """Workers that ask to be replaced, one after another: there is no quiet time to compare."""
    with campaign.clients(server, truth) as clients:
        seen = set(server.workers)
        while len(seen) < count + 2:
            seen |= server.workers
            time.sleep(0.05)
    return row(f"{count} workers recycled", clients.books, None, None)


def stopped(folder: Path, truth: Truth, times: int) -> tuple[Row, list[float]]:
    """Services that are stopped under load, with all books together."""
    total, took = Books(), []
    for _ in range(times):
        with running(folder) as server:
            kept = Clients(server.port, truth, clients=2)
            new = Clients(server.port, truth, clients=2, keep=False, pause=0.0)
            new.wait(200)
            took.append(round(campaign.stop(server), 2))
            for books in (kept.end(), new.end()):
                total.sent += books.sent
                total.failed += books.failed
                total.wrong += books.wrong
                total.resets += books.resets
                total.versions |= books.versions
    return row(f"{times} SIGTERM", total, None, None), took


def slow_connections(folder: Path, truth: Truth, count: int, seconds: float) -> Row:
    """A normal client beside many that send a byte every few seconds."""
    with running(folder) as server, campaign.clients(server, truth, clients=1) as clients:
        began = time.monotonic()
        clients.wait(300)
        before, memory = time.monotonic(), resident_mib(server)
        cpu = cpu_seconds(server)
        command = [sys.executable, "-m", "benchmarks.slow_clients", str(server.port), str(count)]
        helper = subprocess.Popen([*command, str(seconds)], stdout=subprocess.PIPE)
        most, files = memory, 0
        while helper.poll() is None:
            time.sleep(2.0)  # looking takes time from the normal client, a thread of this process
            most = max(most, resident_mib(server))
            files = max(files, open_files(server))
        after = time.monotonic()
        told = json.loads(helper.communicate()[0])
        found = row(
            f"{count} slow connections", clients.books,
            clients.books.median_ms(began, before), clients.books.median_ms(before, after),
        )  # fmt: skip
        times = sorted(t for at, t in clients.books.times if before <= at <= after)
        return found | {
            "p99_ms": round(times[len(times) * 99 // 100] * 1000, 1),
            "slowest_ms": round(times[-1] * 1000, 1),
            "workers_mib_before": round(memory, 1),
            "workers_mib_most": round(most, 1),
            "kib_per_connection": round((most - memory) * 1024 / max(told["most_open"], 1), 2),
            "open_files_most": files,
            "cores_used": round((cpu_seconds(server) - cpu) / (after - before), 2),
            **told,
        }


def resident_mib(server: Running) -> float:
    """Memory of the workers together."""
    pages = [int(Path(f"/proc/{w}/statm").read_text().split()[1]) for w in server.workers]
    return sum(pages) * PAGE / 2**20


def open_files(server: Running) -> int:
    """Of the workers together."""
    return sum(sum(1 for _ in os.scandir(f"/proc/{w}/fd")) for w in server.workers)


def cpu_seconds(server: Running) -> float:
    """User and system time of the workers together."""
    total = 0
    for worker in server.workers:
        fields = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def measure(folder: Path, *, quick: bool, slow: int) -> tuple[list[Row], dict[str, Any]]:
    """All rows; a tenth of it where it should be quick."""
    truth, share = campaign.publish(folder), 5 if quick else 1
    rows, more = [], {}
    with running(folder) as server:
        swaps, few = 20 // share, 5 // share
        for what, disturb, options in (
            (f"{swaps} champion swaps", lambda: campaign.swap(server, swaps, 0.5), {}),
            (f"{few} HUPs, connections kept", lambda: campaign.hup(server, few), {}),
            (f"{few} HUPs, new connections", lambda: campaign.hup(server, few), {"keep": False}),
            (f"{few} kill -9, one retry", lambda: campaign.kill(server, few, 2), {"retry": True}),
        ):
            rows.append(disturbed(what, server, truth, disturb, **options))
    with running(folder, max_requests=1000) as server:
        rows.append(recycled(server, truth, 8 // share))
    found, more["stop_seconds"] = stopped(folder, truth, 5 // share)
    rows.append(found)
    if slow:
        rows.append(slow_connections(folder, truth, slow, 45 / share))
    return rows, more


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of everything")
    parser.add_argument("--slow-connections", type=int, default=10_000, help="0: leave it out")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows, more = measure(Path(folder), quick=options.quick, slow=options.slow_connections)
    for found in rows:
        print(json.dumps(found))
    print(json.dumps(more))
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, **more}, indent=1) + "\n")


if __name__ == "__main__":
    main()
