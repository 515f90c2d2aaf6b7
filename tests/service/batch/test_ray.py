"""Batches on a real Ray of two nodes: every row once, whatever dies; the bytes of one process."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from models.base.errors import DataError
from service.batch import cluster
from service.batch.work import Work
from tests.service.batch import files
from tests.waiting import wait_until

INSTALLED = importlib.util.find_spec("ray") is not None
SECONDS = 900  # of a step on a machine that others use
needs_ray = pytest.mark.skipif(not INSTALLED, reason="the ray extra is not installed")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Two nodes of Ray on this machine, one CPU each; nobody is told of them."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    place = f"127.0.0.1:{port}"
    common = [
        "--node-ip-address=127.0.0.1",
        "--num-cpus=1",
        "--object-store-memory=100000000",
        "--block",
        "--disable-usage-stats",
    ]
    head = ["--head", f"--port={port}", "--include-dashboard=false"]
    environment = os.environ | cluster.SILENT | {
        "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1",
        # A machine that others use is slow, not dead.
        "RAY_health_check_failure_threshold": "100", "RAY_raylet_start_wait_time_s": "600",
    }  # fmt: skip
    nodes = []
    try:
        for own in (head, [f"--address={place}"]):
            command = [sys.executable, "-m", "ray.scripts.scripts", "start", *own, *common]
            log = (tmp_path / f"node{len(nodes)}.log").open("wb")
            with log:
                nodes.append(
                    subprocess.Popen(
                        command, env=environment, stdout=log, stderr=log, start_new_session=True
                    )
                )
            name = tmp_path / f"node{len(nodes) - 1}.log"
            node = nodes[-1]
            wait_until(
                lambda name=name, node=node: (
                    b"runtime started" in name.read_bytes() or node.poll() is not None
                ),
                SECONDS,
                every=0.5,
            )
            assert node.poll() is None, name.read_text()
        yield place
    finally:
        children = [child for node in nodes for child in _below(node.pid)]
        for node in reversed(nodes):
            node.terminate()
        for node in nodes:
            with suppress(subprocess.TimeoutExpired):
                node.wait(60)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()


def _below(pid: int) -> list[psutil.Process]:
    """A process and all that it has started."""
    try:
        own = psutil.Process(pid)
        return [*own.children(recursive=True), own]
    except psutil.NoSuchProcess:
        return []


def workers(address: str) -> list[psutil.Process]:
    """The processes in which the nodes of this cluster score."""
    port, found = address.partition(":")[2], []
    for process in psutil.process_iter(["cmdline"]):
        if "raylet" in " ".join(process.info["cmdline"] or ())[:200] and port in " ".join(
            process.info["cmdline"]
        ):
            found += [
                each
                for each in process.children()
                if each.cmdline()
                and each.cmdline()[0].startswith("ray::MapWorker")  # an agent ends its node
            ]
    return found


@needs_ray
@pytest.mark.slow
def test_every_row_comes_once_though_a_worker_is_killed_and_a_row_group_is_broken(
    registry: Path, tmp_path: Path, address: str
) -> None:
    data = files.write(tmp_path, files.rows(9000), group=60)
    files.damage(data, 7)
    out, log = tmp_path / "out.parquet", tmp_path / "score.log"
    environment = os.environ | {"HOLDFAST_STATE": str(registry.parent), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable, "-m", "service", "score", str(data), "--model", files.MODEL,
        "--out", str(out), "--ray", address, "--json",
    ]  # fmt: skip
    with log.open("wb") as told, (tmp_path / "score.json").open("wb") as printed:
        run = subprocess.Popen(command, env=environment, stdout=printed, stderr=told)
        work = Work(out)
        wait_until(
            lambda: run.poll() is not None or len(list(work.folder.glob("0*.json"))) > 1,
            SECONDS,
            every=0.2,
        )
        assert run.poll() is None, log.read_text()
        victim = workers(address)[0]
        victim.send_signal(signal.SIGKILL)
        assert not out.exists(), "it was killed while there was work"
        assert run.wait(SECONDS) == 1, log.read_text()
    report = json.loads((tmp_path / "score.json").read_text())["data"]
    (failure,) = report["failures"]
    assert "row group 7 (rows 421 to 480)" in failure["piece"]
    rows = pq.read_table(out)["row"].to_pylist()
    assert rows == [*range(1, 421), *range(481, 9001)]
    alone = tmp_path / "alone.parquet"
    files.score(registry, data, alone)
    assert out.read_bytes() == alone.read_bytes()


@needs_ray
def test_ray_tells_nobody_that_it_is_used(registry: Path, tmp_path: Path) -> None:
    cluster.on_ray("127.0.0.1:1", registry, files.NO_KEYS, tmp_path / "out.parquet")
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_without_the_extra_it_says_what_is_missing(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DataError, match=r"needs the ray extra: pip install"):
        cluster.on_ray("auto", registry, files.NO_KEYS, tmp_path / "out.parquet")


@needs_ray
def test_what_can_only_be_read_from_its_beginning_is_refused(
    registry: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("n0,n1\n1,2\n")
    out = tmp_path / "out.parquet"
    engine = cluster.on_ray("127.0.0.1:1", registry, files.NO_KEYS, out)
    with pytest.raises(DataError, match="--ray is for Parquet"):
        files.score(registry, tmp_path / "rows.csv", out, engine=engine)
