"""What a state directory of many requests takes: room, time to prune, to start, and to measure.

    python -m benchmarks.records_size --requests 500000

Requests of one 8 x 8 image in float32 (256 bytes) are written through the real store, in batches as
the service writes them. Times are of one run.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from monitoring.records.keeping.figures import Room, measure_models, measure_room
from monitoring.records.store import Kept, Record, RecordStore, Request

BATCH = 2000


def requests(first: int, count: int) -> list[Request]:
    rng = np.random.default_rng(first)
    inputs = rng.random((count, 64), np.float32)
    made = []
    for k in range(count):
        name, at = f"{first + k:026d}", 1e9 + first + k
        x = inputs[k].tobytes()
        record = Record(name, 0, at, "digits", 1, x, 3, 0.5, 0.2, 0.9, 0.3, "token shop")
        made.append(Request.of([record]))
    return made


def tell(what: str, seconds: float, room: Room | None = None) -> None:
    sizes = "" if room is None else f"  {room._asdict()}"
    print(f"{what:<40} {seconds:8.2f} s{sizes}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=500_000)
    count = parser.parse_args().requests
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/records.sqlite"
        store = RecordStore(url)
        began = time.perf_counter()
        for first in range(0, count, BATCH):
            store.write(requests(first, min(BATCH, count - first)))
        room = measure_room(store.folder)
        tell(f"{count} requests written", time.perf_counter() - began, room)
        total = sum(size or 0 for size in (room.database, room.segments))
        print(f"bytes for a request of 256 bytes: {total / count:.0f}")

        opening = "import sys; from monitoring.records.store import RecordStore; "
        opening += "RecordStore(sys.argv[1]).close()"
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", opening, url], check=True, cwd=Path.cwd())
        tell("a process opens it and ends", time.perf_counter() - began)
        began = time.perf_counter()
        measure_models(store.database)
        tell("figures (records stats)", time.perf_counter() - began)
        began = time.perf_counter()
        store.prune(Kept(rows=count))
        tell("prune with nothing to remove", time.perf_counter() - began)
        began = time.perf_counter()
        removed = store.prune(Kept(rows=count * 2 // 5))
        tell(f"prune of {removed}", time.perf_counter() - began, measure_room(store.folder))
        store.close()


if __name__ == "__main__":
    main()
