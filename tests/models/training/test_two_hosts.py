"""Training under torchrun on two hosts: network namespaces with addresses of their own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.models.training.test_distributed import NET, PGD, SCRIPT, check_told

HOSTS = ("10.213.7.1", "10.213.7.2")
PORT = 29511  # in a namespace of its own nobody else has it
SECONDS = 1200


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[list[tuple[str, str]]]:
    """Two network namespaces and the interface of each, with a cable between them."""
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and `ip`")
    names = [f"hf{os.getpid()}{end}" for end in "ab"]
    links = [f"v{os.getpid()}{end}" for end in "ab"]
    made = []
    try:
        for name in names:
            try:
                _ip("netns", "add", name)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
            made.append(name)
        _ip("link", "add", links[0], "type", "veth", "peer", "name", links[1])
        for name, link, address in zip(names, links, HOSTS, strict=True):
            _ip("link", "set", link, "netns", name)
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", link)
            _ip("-n", name, "link", "set", link, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield list(zip(names, links, strict=True))
    finally:
        for name in made:  # the cable goes with them
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", name)


@pytest.mark.slow
def test_two_hosts_train_one_model_and_see_every_row_once_an_epoch(
    hosts: list[tuple[str, str]], tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    given = json.dumps({"net": NET, "recipe": PGD})
    runs, logs = [], []
    for rank, (name, link) in enumerate(hosts):
        torchrun = [
            sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={rank}",
            "--nproc-per-node=1", f"--master-addr={HOSTS[0]}", f"--master-port={PORT}",
        ]  # fmt: skip
        command = ["ip", "netns", "exec", name, *torchrun, str(script), given]
        environment = os.environ | {
            "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd()), "GLOO_SOCKET_IFNAME": link,
        }  # fmt: skip
        logs.append(tmp_path / f"{rank}.log")
        with (tmp_path / f"{rank}.out").open("wb") as out, logs[-1].open("wb") as log:
            runs.append(subprocess.Popen(command, env=environment, stdout=out, stderr=log))
    try:
        for run, log in zip(runs, logs, strict=True):
            assert run.wait(SECONDS) == 0, log.read_text()[-2000:]
    finally:
        for run in runs:
            run.kill()
    assert check_told((tmp_path / "0.out").read_text(), 2) > 0.7
    assert (tmp_path / "1.out").read_text() == "", "the first process alone says what came out"
