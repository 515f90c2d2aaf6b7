"""Laws of the memory check: the least of what the machine and the control groups leave."""

from pathlib import Path

import numpy as np
import pytest

from models import data
from models.base.errors import DataError
from models.data import memory
from tests import samples

MIB = 1 << 20


def machine(root: Path, files: dict[str, str]) -> Path:
    """A root with these files of /proc and /sys."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal:  99999 kB\nMemAvailable:    8192 kB\n"}  # 8 MiB
V2 = {"proc/self/cgroup": "0::/a/b\n"}
V1 = {"proc/self/cgroup": "9:name=systemd:/\n4:memory,x:/a\n0::/\n"}


@pytest.mark.parametrize(
    ("files", "available"),
    [
        ({}, None),
        (MEMINFO, 8 * MIB),
        (
            V2 | {"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/b/memory.current": "1"},
            None,
        ),
        (
            MEMINFO
            | V2
            | {
                "sys/fs/cgroup/a/memory.max": str(6 * MIB),
                "sys/fs/cgroup/a/memory.current": str(5 * MIB),
                "sys/fs/cgroup/a/memory.stat": f"anon 1\ninactive_file {3 * MIB}\n",
            },
            4 * MIB,
        ),
        (
            MEMINFO
            | V2
            | {"sys/fs/cgroup/memory.max": str(MIB), "sys/fs/cgroup/memory.current": str(2 * MIB)},
            0,
        ),
        (
            MEMINFO
            | V1
            | {
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": str(5 * MIB),
                "sys/fs/cgroup/memory/a/memory.usage_in_bytes": str(2 * MIB),
                "sys/fs/cgroup/memory/a/memory.stat": f"total_inactive_file {MIB}\n",
            },
            4 * MIB,
        ),
    ],
)
def test_available_is_the_least_that_the_machine_and_its_groups_leave(
    tmp_path: Path, files: dict[str, str], available: int | None
) -> None:
    assert memory.available_bytes(machine(tmp_path, files)) == available


def test_what_does_not_fit_is_refused_with_both_figures(tmp_path: Path) -> None:
    root = machine(tmp_path, {"proc/meminfo": f"MemAvailable: {2 * 1024 * 1024} kB\n"})
    memory.require(1 << 30, "pets", root)
    with pytest.raises(DataError, match=r"pets: .* about 3.0 GiB of memory, and 2.0 GiB is"):
        memory.require(3 << 30, "pets", root)
    memory.require(1 << 60, "pets", tmp_path / "says-nothing")


def test_this_machine_says_how_much_it_has() -> None:
    available = memory.available_bytes()
    assert available is None or 0 < available < 1 << 50


@pytest.mark.parametrize(
    "kind", ["npz", "idx", "folder", "parquet-images", "parquet", "csv", "jsonl"]
)
def test_every_reader_asks_before_it_decodes(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    if kind == "npz":
        path = tmp_path / "data.npz"
        np.savez(path, x=np.zeros((9, 4, 4)), y=np.arange(9))
    elif kind == "idx":
        samples.write_mnist(path)
    elif kind == "folder":
        samples.write_folder(path)
    elif kind == "parquet-images":
        path = samples.write_images_parquet(tmp_path / "data.parquet")
    elif kind == "parquet":
        path = samples.write_parquet(tmp_path / "data.parquet", samples.people())
    elif kind == "csv":
        path = samples.write_csv(tmp_path / "data.csv", samples.people())
    else:
        path = tmp_path / "data.jsonl"
        path.write_text('{"a": 1, "label": "x"}\n' * 9)
    monkeypatch.setattr(memory, "available_bytes", lambda root: 1024)
    with pytest.raises(DataError, match=r"data.* takes about 0 MiB of memory, and 0 MiB is"):
        data.load(str(path))
