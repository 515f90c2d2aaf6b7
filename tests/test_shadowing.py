"""What lies in the working directory under a name of ours or of a dependency is not imported."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.data.bundled import load_table
from monitoring.loop.steps import StepFailedError, run_child
from service.cli.serve import answers
from tests import bundles
from tests.e2e.stack import Stack, get, status_of
from tests.ops import ROOT, free_port
from tests.waiting import wait_until

TRAPS = (
    "models/__init__.py", "service/__init__.py", "monitoring.py", "json.py", "click.py",
    "numpy.py", "torch.py", "gunicorn.py", "flask.py", "onnxruntime.py", "sqlalchemy.py",
    "tempfile.py", "tests.py",
)  # fmt: skip
NET = """
import torch
from torch import nn

from blocks import width
from .blocks import width as same

def make(shape, classes):
    assert width() == same() == 24
    return nn.Sequential(nn.Linear(shape[0], width()), nn.ReLU(), nn.Linear(width(), classes))
"""
COMMAND = (str(Path(sys.executable).with_name("holdfast")),)


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A folder full of modules that must not be imported; each says so by a file."""
    folder = tmp_path / "trapped"
    for name in TRAPS:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        say = f"open({str(tmp_path)!r} + '/imported', 'a').write(__file__ + chr(10))\n"
        file.write_text(f"{say}raise RuntimeError('imported from the working directory')\n")
    (folder / "mynet.py").write_text(NET)
    (folder / "blocks.py").write_text("def width():\n    return 24\n")
    return folder


@pytest.mark.slow
def test_train_up_and_the_loop_import_nothing_of_ours_from_the_working_directory(
    trapped: Path, tmp_path: Path
) -> None:
    ports = (free_port(), free_port())
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("HOLDFAST_", "PYTHON"))},
        "HOLDFAST_STATE": str(tmp_path / "state"), "HOLDFAST_WORKERS": "1",
        "HOLDFAST_PORT": str(ports[0]), "HOLDFAST_WATCH_PORT": str(ports[1]),
        "HOLDFAST_WATCH_INTERVAL_SECONDS": "0.5", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    train = ("train", "wine", "--quick", "--epochs", "30", "--net", "mynet:make", "--json")
    done = subprocess.run(
        [*COMMAND, *train], env=env, cwd=trapped, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "state/registry/wine/1/manifest.json").read_text())
    assert manifest["training"]["net"]["factory"] == "mynet:make"
    assert manifest["training"]["net"]["folder"] == str(trapped)

    elsewhere = tmp_path / "elsewhere"  # the loop finds the net where it was, not where it runs
    elsewhere.mkdir()
    for name in TRAPS:
        (elsewhere / name).parent.mkdir(exist_ok=True)
        (elsewhere / name).write_text((trapped / name).read_text())
    for job in up(elsewhere, env, ports, tmp_path):
        assert job["outcome"] not in ("failed", "abandoned"), job
    assert not (tmp_path / "imported").exists(), (tmp_path / "imported").read_text()


def up(
    folder: Path, env: dict[str, str], ports: tuple[int, int], tmp_path: Path
) -> Iterator[dict[str, Any]]:
    """`holdfast up` in a folder: it predicts, and its loop evaluates; the job that has ended."""
    service, watcher = (f"http://127.0.0.1:{port}" for port in ports)
    with (tmp_path / "up.log").open("wb") as log:
        process = subprocess.Popen([*COMMAND, "up"], env=env, cwd=folder, stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(f"{service}/readyz"), seconds=120, what="the service is ready")
        wait_until(lambda: answers(f"{watcher}/healthz"), seconds=120, what="the watcher answers")
        rows = load_table("wine").test.x[:1].tolist()
        status, told = status_of(f"{service}/predict", {"instances": rows})
        assert status == 200, told
        token = (tmp_path / "state" / "run" / "admin_token").read_text()
        asked = {"model": "wine", "kind": "evaluate"}
        status, told = status_of(f"{watcher}/jobs", asked, {"Authorization": f"Bearer {token}"})
        assert status < 300, told
        ended = wait_until(
            lambda: [j for j in get(f"{watcher}/jobs") if j["state"] != "running"],
            seconds=240, what="the evaluation has ended",
        )  # fmt: skip
        yield ended[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def test_service_and_watcher_start_among_names_of_ours(trapped: Path, tmp_path: Path) -> None:
    bundles.publish(tmp_path / "state" / "registry")
    stack = Stack(tmp_path / "state", {"HOLDFAST_WORKERS": "1"})
    with (tmp_path / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, "up"], env=stack.env, cwd=trapped, stdout=log, stderr=log
        )
    try:
        for url in (f"{stack.url}/readyz", f"{stack.watch_url}/healthz"):
            wait_until(lambda url=url: answers(url), seconds=120, what=f"{url} answers")
        rows = bundles.digits().test.x[:1].tolist()
        status, told = status_of(f"{stack.url}/predict", {"instances": rows})
        assert status == 200, told
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert not (tmp_path / "imported").exists(), (tmp_path / "imported").read_text()


def test_a_step_of_the_loop_runs_among_names_of_ours(
    trapped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tmp_path / "job"
    job.mkdir()
    monkeypatch.chdir(trapped)
    with pytest.raises(StepFailedError):
        run_child(job, "collect", seconds=120, beat=lambda: None, stop=threading.Event())
    assert "collect.task.json" in (job / "log").read_text(), "it came to where it reads its task"
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("command", ["holdfast", "python -m service"])
def test_a_command_runs_among_names_of_ours(command: str, trapped: Path) -> None:
    if command != "holdfast":  # `-m` itself would find the package of the working directory
        (trapped / "service" / "__init__.py").unlink()
        (trapped / "service").rmdir()
    start = COMMAND if command == "holdfast" else (sys.executable, "-m", "service")
    done = subprocess.run(
        [*start, "doctor", "--help"], cwd=trapped, capture_output=True, text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (trapped.parent / "imported").exists()


def test_children_of_a_checkout_that_is_not_installed_find_it(tmp_path: Path) -> None:
    """A copy of the packages in a folder that no `.pth` file names, called from there."""
    copy = tmp_path / "checkout"
    for name in ("models", "monitoring", "service"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).symlink_to(ROOT / name)
    code = (
        "import json, subprocess, sys; from models.base.processes import child_environment as e\n"
        "say = 'import service; print(service.__file__)'\n"
        "subprocess.run([sys.executable, '-c', say], env=e(), cwd='/', check=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
    )  # fmt: skip
    assert done.stdout.strip() == str(copy / "service" / "__init__.py"), done.stderr
