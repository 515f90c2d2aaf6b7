import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from monitoring.counting.shared_counters import BYTES, allocate

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
