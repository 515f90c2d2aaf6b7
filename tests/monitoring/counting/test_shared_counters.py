import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter

from monitoring.counting.shared_counters import BYTES, BulkCounters, allocate

COUNT = """
import sys
from pathlib import Path
from monitoring.counting.shared_counters import allocate
from monitoring.counting.metrics import Metrics
from monitoring.counting.shared_counters import exposition, share_counters
folder = Path(sys.argv[1])
allocate(folder, 0)
share_counters(folder, 0)
metrics = Metrics()
metrics.feedback.labels("m", "1", "true").inc(int(sys.argv[2]))
metrics.batch_rows.observe(3)
print(exposition(metrics.registry, folder)().decode())
"""


def count(folder: Path, number: int) -> str:
    command = [sys.executable, "-c", COUNT, str(folder), str(number)]
    return subprocess.run(command, capture_output=True, check=True, text=True, timeout=120).stdout


def test_the_library_counts_in_files_that_have_their_space_and_takes_them_up_again(
    tmp_path: Path,
) -> None:
    sample = 'holdfast_feedback_total{correct="true",model="m",version="1"} '
    assert sample + "3.0" in count(tmp_path, 3)
    assert sample + "8.0" in count(tmp_path, 5)  # the next worker of the slot
    made = {path.name for path in tmp_path.glob("*.db")}
    assert made == {f"{kind}_0.db" for kind in BYTES}  # the library opened no other
    for path in tmp_path.glob("*.db"):
        assert path.stat().st_blocks * 512 >= BYTES[path.stem.removesuffix("_0")]


def test_a_file_that_is_there_keeps_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "counter_1.db"
    path.write_bytes(b"counted")
    allocate(tmp_path, 1)
    allocate(tmp_path, 1)
    assert path.read_bytes() == b"counted".ljust(BYTES["counter"], b"\0")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_no_space_is_an_error_and_no_signal(tmp_path: Path) -> None:
    (tmp_path / "counter_0.db").symlink_to("/dev/full")
    with pytest.raises(OSError):  # noqa: PT011
        allocate(tmp_path, 0)


def test_the_library_is_the_one_that_this_was_read_against() -> None:
    assert version("prometheus_client").rsplit(".", 1)[0] == "0.26", (
        "read monitoring/counting/shared_counters.py against the new version, then change this line"
    )


BULK = """
import sys
from pathlib import Path
import numpy as np
from prometheus_client import Counter
from monitoring.counting.metrics import Metrics
from monitoring.counting.shared_counters import BulkCounters, exposition, share_counters
folder = Path(sys.argv[1])
share_counters(folder, int(sys.argv[2]))
metrics = Metrics()
cells = [metrics.cell_observations.labels("m", "1", "energy", f"{k:03d}") for k in range(300)]
bulk = BulkCounters(cells)
bulk.add(np.arange(300))
more = [metrics.feedback.labels("m" * 9999, str(k), "true") for k in range(1000)]  # the file grows
bulk.add(np.arange(300) % 2)
more[-1].inc()
print(exposition(metrics.registry, folder)().decode())
"""


def test_counters_that_are_added_to_at_once_add_up_over_workers_as_others_do(
    tmp_path: Path,
) -> None:
    for slot in (0, 1, 1):  # the third process goes on with the slot of the second
        command = [sys.executable, "-c", BULK, str(tmp_path), str(slot)]
        text = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    for k in (0, 1, 7, 299):
        labels = f'{{cell="{k:03d}",channel="energy",model="m",version="1"}}'
        assert f"holdfast_cell_observations_total{labels} {3.0 * (k + k % 2)}" in text


def test_counters_of_one_process_are_added_to_at_once_too() -> None:
    registry = CollectorRegistry()
    counter = Counter("rows", "Rows.", ("cell",), registry=registry)
    bulk = BulkCounters([counter.labels(str(k)) for k in range(3)])
    for _ in range(2):
        bulk.add(np.array([1, 0, 5]))
    told = [registry.get_sample_value("rows_total", {"cell": str(k)}) for k in range(3)]
    assert told == [2.0, 0.0, 10.0]
    with pytest.raises(AssertionError):
        bulk.add(np.array([1, 0]))
    BulkCounters([]).add(np.zeros(0, np.int64))
