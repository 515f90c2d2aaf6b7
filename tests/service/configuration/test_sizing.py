import math
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.configuration.sizing import (
    COPIES,
    LEAST_WORKERS,
    MOST_WORKERS,
    WORKER_BYTES,
    Machine,
    choose,
    machine,
    model_sizes,
)

GIB = 2**30


def told(files: Mapping[str, str], usable: int = 8) -> Machine:
    files = {"/proc/meminfo": f"MemTotal: {16 * 2**20} kB\n", **files}
    return machine(files.get, usable)


def test_without_a_cgroup_the_usable_cores_and_all_memory_count() -> None:
    assert told({}) == Machine(8, 16 * GIB, "8 usable cores")


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2.5),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        (
            {
                "/proc/self/cgroup": "0::/pods/one\n",
                "/sys/fs/cgroup/pods/one/cpu.max": "max 100000\n",
                "/sys/fs/cgroup/pods/cpu.max": "300000 100000\n",
            },
            3,
        ),
        (
            {
                "/proc/self/cgroup": "3:cpu,cpuacct:/a\n2:cpuset:/\n",
                "/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "150000\n",
                "/sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
            },
            1.5,
        ),
        (
            {
                "/proc/self/cgroup": "3:cpu:/\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
    ],
)
def test_the_smallest_quota_of_the_cgroups_above_holds(files: dict[str, str], cores: float) -> None:
    found = told(files)
    assert found.cores == cores
    assert ("cgroup quota" in found.why) == (cores < 8)


def test_a_memory_limit_of_a_cgroup_holds() -> None:
    files = {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": f"{GIB}\n"}
    assert told(files).memory_bytes == GIB
    unlimited = {**files, "/sys/fs/cgroup/memory.max": "max\n"}
    assert told(unlimited).memory_bytes == 16 * GIB


def test_this_machine_can_be_read() -> None:
    here = machine()
    assert 0 < here.cores <= (os.cpu_count() or 1)
    assert here.memory_bytes > 2**26


@settings(max_examples=50)
@given(st.floats(0.1, 256), st.integers(2**26, 2**40), st.integers(0, 4 * GIB))
def test_what_is_chosen_is_sound_on_every_machine(cores: float, memory: int, model: int) -> None:
    chosen = choose(Machine(cores, memory, ""), {"m": model})
    assert 1 <= chosen.workers <= MOST_WORKERS
    assert chosen.model_threads >= 1
    assert chosen.workers * chosen.model_threads <= max(math.ceil(cores), LEAST_WORKERS)
    assert chosen.workers == 1 or chosen.workers * (WORKER_BYTES + COPIES * model) <= memory


def test_one_core_gets_two_workers_so_that_one_may_die() -> None:
    assert choose(Machine(1, 4 * GIB, ""), {}).workers == 2


def test_little_memory_means_fewer_workers() -> None:
    assert choose(Machine(16, GIB, ""), {}).workers == 4
    assert choose(Machine(16, GIB, ""), {"large": 100 * 2**20}).workers == 1


def test_onnxruntime_gets_threads_only_for_a_big_model_and_cores_beyond_the_workers() -> None:
    here = Machine(8, 64 * GIB, "")
    assert choose(here, {"small": 10**6}, workers=2).model_threads == 1
    assert choose(here, {"small": 10**6, "large": 10**8}, workers=2).model_threads == 4
    assert choose(here, {"large": 10**8}).model_threads == 1


def test_what_is_set_stays() -> None:
    chosen = choose(Machine(2, GIB, ""), {}, workers=7, threads=9, model_threads=5)
    assert tuple(chosen) == (7, 9, 5)


def test_the_largest_version_of_every_model_counts(tmp_path: Path) -> None:
    for name, size in (("a/1", 10), ("a/2", 30), ("b/1", 5)):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(b"x" * size)
    assert model_sizes(tmp_path) == {"a": 30, "b": 5}
    assert model_sizes(tmp_path / "nowhere") == {}
