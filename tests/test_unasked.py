"""No process of ours talks to anybody unasked, nor do its dependencies leave files at home."""

import ast
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import psutil
import pytest
import requests

from service.cli.serve import answers
from tests import bundles
from tests.ops import ROOT, free_port
from tests.service.processes import wait_until
from tests.surroundings import Surroundings, surroundings

HOLDFAST = ("-m", "service")
LOOPBACK = ("127.0.0.1", "::1")
# Its first upload is due some seconds after a session was made, whatever it then does.
LONG_ENOUGH_SECONDS = 12.0
RUN_ANYWAY = """
import os, sys, time, urllib.request
sys.argv[1] == "quiet" and os.environ.update(ORT_DISABLE_TELEMETRY="1")
import onnxruntime
onnxruntime.InferenceSession(sys.argv[2])
try:
    urllib.request.urlopen("http://example.invalid/", timeout=5)
except OSError:
    pass
"""


@pytest.fixture
def around(tmp_path: Path) -> Iterator[Surroundings]:
    with surroundings(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "registry"
    bundles.publish(folder)
    return folder


def test_the_surroundings_notice_what_is_not_quiet(around: Surroundings, registry: Path) -> None:
    model = str(registry / "digits" / "1" / "model.onnx")
    around.run("-c", RUN_ANYWAY, "quiet", model)
    assert around.files() == []
    assert [call for call in around.calls if b"example.invalid" in call]
    around.run("-c", RUN_ANYWAY, "loud", model)
    assert any("onnxruntime" in name for name in around.files())
    assert {line.partition(" ")[0] for line in around.imported("onnxruntime")} == {"1", "None"}


def test_service_and_watcher_talk_to_nobody_unasked(around: Surroundings, registry: Path) -> None:
    state, ports = around.folder / "state", (free_port(), free_port())
    shutil.copytree(registry, state / "registry")
    settings = {
        "HOLDFAST_STATE": str(state), "HOLDFAST_WORKERS": "1",
        "HOLDFAST_PORT": str(ports[0]), "HOLDFAST_WATCH_PORT": str(ports[1]),
        "HOLDFAST_WATCH_INTERVAL_SECONDS": "0.5",
    }  # fmt: skip
    service, watcher = (f"http://127.0.0.1:{port}" for port in ports)
    with started(around, settings, "serve") as serve, started(around, settings, "watch") as watch:
        wait_until(lambda: answers(f"{service}/readyz"), 120)
        wait_until(lambda: answers(f"{watcher}/healthz"), 120)
        body = {"instances": bundles.digits().test.x[:1].tolist()}
        assert requests.post(f"{service}/predict", json=body, timeout=30).status_code == 200
        # The watcher has read the service's counters, and has not asked a proxy for them.
        wait_until(lambda: any(str(ports[0]) in to for to in around.seen("socket.connect")), 60)
        outside = strangers((serve, watch), ports)
    check_quiet(around, ports)
    assert outside == set()


@pytest.mark.slow
def test_training_evaluation_and_wrapping_talk_to_nobody_unasked(around: Surroundings) -> None:
    onnx.save(bundles.linear(bundles.digits()), around.folder / "plain.onnx")
    settings = {"HOLDFAST_STATE": str(around.folder / "state")}
    for command in (
        ("train", "wine", "--quick", "--epochs", "30"),
        ("evaluate", "wine"),
        ("wrap", str(around.folder / "plain.onnx"), "--data", "digits"),
    ):
        done = around.run(*HOLDFAST, *command, **settings)
        assert done.returncode == 0, done.stderr
    check_quiet(around, ())
    assert len(around.imported("onnxruntime")) == 3


def test_only_the_package_that_silences_onnxruntime_imports_it() -> None:
    files = [
        f for name in ("models", "monitoring", "service") for f in ROOT.glob(f"{name}/**/*.py")
    ]
    load = {file.relative_to(ROOT).parts[0] for file in files if "onnxruntime" in imports(file)}
    assert load == {"models"}
    env = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    code = "import os, models; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, cwd=ROOT)
    assert done.stdout == b"1\n", done.stderr


def imports(file: Path) -> set[str]:
    """Top names of what a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def check_quiet(around: Surroundings, ports: tuple[int, ...]) -> None:
    """Nobody was called but ourselves, nothing was left, and onnxruntime was told before."""
    assert around.calls == []
    allowed = {str((host, port)) for host in LOOPBACK for port in ports}
    assert set(around.seen("socket.connect")) <= allowed
    names = {name for name in around.seen("socket.getaddrinfo") if "127.0.0.1" not in name}
    assert names == set()
    assert around.files() == []
    assert {line.partition(" ")[0] for line in around.imported("onnxruntime")} == {"1"}


@contextmanager
def started(
    around: Surroundings, settings: dict[str, str], name: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """`holdfast NAME` until the block ends."""
    log = (around.folder / f"{name}.log").open("wb")
    with log:
        process = subprocess.Popen(
            [sys.executable, *HOLDFAST, name], env=around.environment(**settings),
            cwd=around.here, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def strangers(processes: tuple["subprocess.Popen[bytes]", ...], ports: tuple[int, ...]) -> set[str]:
    """Whom the processes and their children have sockets to, looked at for a while.

    The hook sees what Python does, this what a library in another language does.
    """
    found: set[str] = set()
    end = time.monotonic() + LONG_ENOUGH_SECONDS
    while time.monotonic() < end:
        for process in processes:
            family = [psutil.Process(process.pid)]
            family += family[0].children(recursive=True)
            for member in family:
                for link in member.net_connections("inet"):
                    ours = link.laddr.port in ports or (link.raddr and link.raddr.port in ports)
                    if link.raddr and not ours:
                        found.add(f"{link.raddr.ip}:{link.raddr.port}")
        time.sleep(0.05)
    return found
