"""The wheel, as a stranger has it: a fresh environment, an empty folder, no checkout."""

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from models.base.processes import ends_with_parent
from tests import bundles
from tests.e2e.stack import TRAINS_SECONDS, Stack, fetch, get, status_of
from tests.once import make_once
from tests.ops import ROOT
from tests.waiting import wait_until

PLAIN = {"instances": [[[[8.0] * 8] * 8]]}
TRAINS = ("torch", "torchgen", "functorch", "onnx", "onnxscript", "sklearn", "safetensors")


def tracked(*under: str) -> list[str]:
    """Files that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *under]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this is no git checkout: {error}")
    return [line for line in done.stdout.splitlines() if (ROOT / line).is_file()]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without the network."""

    def build(folder: Path) -> None:
        source = folder / "source"
        for name in tracked("models", "monitoring", "service", "pyproject.toml", "README.md",
                            "LICENSE"):  # fmt: skip
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
        pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
        done = subprocess.run(
            [*pip, "--no-index", "--wheel-dir", str(folder), str(source)],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    (made,) = make_once(tmp_path_factory, "wheel", build).glob("*.whl")
    return made


def install(wheel: Path, at: Path, *, without: tuple[str, ...] = ()) -> Path:
    """The program of a fresh environment, with the packages of this one but those left out."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(at)], check=True)
    python = at / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps"]
    done = subprocess.run(
        [*pip, "--no-index", "--no-compile", str(wheel)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    places = [Path(p) for p in sys.path if p.endswith("site-packages")]
    if without:
        links = at / "packages"
        links.mkdir()
        left_out = {"holdfast", *without}
        for entry in (each for place in places for each in place.iterdir()):
            link = links / entry.name
            if entry.name.partition("-")[0] not in left_out and not link.exists():
                link.symlink_to(entry)
        places = [links]
    (own,) = at.glob("lib/python3*/site-packages")
    (own / "others.pth").write_text("".join(f"{place}\n" for place in places))
    return at / "bin" / "holdfast"


@pytest.fixture(scope="session")
def holdfast(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed program, with all that trains."""
    return install(wheel, tmp_path_factory.mktemp("whole") / "venv")


@pytest.fixture(scope="session")
def holdfast_that_serves(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed program without the train extra."""
    return install(wheel, tmp_path_factory.mktemp("serving") / "venv", without=TRAINS)


def start(program: Path, command: str, stack: Stack, folder: Path) -> "subprocess.Popen[bytes]":
    """Start it in a folder; what it says goes to `said.log` beside the state."""
    with (folder.parent / "said.log").open("ab") as log:
        return subprocess.Popen(
            [program, command], cwd=folder, env=plain(stack), stdout=log, stderr=log,
            start_new_session=True, preexec_fn=ends_with_parent(signal.SIGTERM),
        )  # fmt: skip


def plain(stack: Stack) -> dict[str, str]:
    """Its environment, without what leads to the checkout."""
    return {k: v for k, v in stack.env.items() if k != "PYTHONPATH"}


def run(program: Path, *arguments: str, stack: Stack, folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        [program, *arguments], cwd=folder, env=plain(stack), capture_output=True, text=True,
        timeout=TRAINS_SECONDS,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def answers(url: str, process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, log.read_text()[-3000:]
    try:
        return bool(fetch(url))
    except OSError:
        return False


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    there = set(zipfile.ZipFile(wheel).namelist())
    wanted = {n for n in tracked("models", "monitoring", "service") if Path(n).name != ".gitignore"}
    assert wanted
    assert wanted - there == set()


def test_the_demo_starts_in_an_empty_folder_and_answers_with_scores(
    holdfast: Path, tmp_path: Path
) -> None:
    folder, log = tmp_path / "empty", tmp_path / "said.log"
    folder.mkdir()
    stack = Stack(folder / "state")
    process = start(holdfast, "demo", stack, folder)
    try:
        page = f"{stack.url}/console/state"
        wait_until(lambda: answers(page, process, log), what="the page is there while it trains")
        assert b"<html" in fetch(stack.url, headers={"Accept": "text/html"})
        wait_until(
            lambda: answers(f"{stack.url}/readyz", process, log),
            TRAINS_SECONDS, what="the demo model is trained",
        )  # fmt: skip
        status, told = status_of(f"{stack.url}/predict", PLAIN)
        assert (status, told["version"]) == (200, 1)
        (answer,) = told["predictions"]
        assert 0 <= answer["drift"]["p_value"] <= 1
        assert 0 <= answer["perturbation"]["likelihood"] <= 1
        wait_until(
            lambda: answers(f"{stack.watch_url}/models", process, log), what="the watcher answers"
        )
        status_2, said = run(holdfast, "demo", stack=stack, folder=folder)
        assert status_2 == 1
        assert "another service runs on this state directory" in said
        assert run(holdfast, "models", "list", stack=stack, folder=folder)[0] == 0
        assert get(f"{stack.watch_url}/models")[0]["model"] == "digits"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert process.returncode == 0
    assert {each.name for each in folder.iterdir()} == {"state"}


def test_ctrl_c_in_the_middle_of_the_training_ends_all_and_leaves_nothing_half(
    holdfast: Path, tmp_path: Path
) -> None:
    folder, log = tmp_path / "empty", tmp_path / "said.log"
    folder.mkdir()
    stack = Stack(folder / "state")
    process = start(holdfast, "demo", stack, folder)
    progress = stack.state / "run" / "progress.json"
    try:
        wait_until(
            lambda: answers(f"{stack.url}/console/state", process, log) and progress.exists(),
            what="it trains",
        )
    finally:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        process.wait(60)
    assert process.returncode == 130
    assert "Traceback" not in log.read_text()
    assert not list(stack.state.glob("registry/digits/[0-9]*"))
    with pytest.raises(OSError, match="refused"):
        fetch(stack.url)


def test_without_the_train_extra_it_serves_scores_and_says_what_is_missing(
    holdfast_that_serves: Path, tmp_path: Path
) -> None:
    program, folder, log = holdfast_that_serves, tmp_path / "empty", tmp_path / "said.log"
    folder.mkdir()
    stack = Stack(folder / "state")
    for command in ("demo", "up", "train"):
        status, said = run(program, command, stack=stack, folder=folder)
        assert status == 1, said
        assert "pip install 'holdfast[train]'" in said
        assert "torch" in said
        assert "Traceback" not in said
    bundles.publish(stack.state / "registry", "digits")
    process = start(program, "up", stack, folder)
    try:
        wait_until(lambda: answers(f"{stack.url}/readyz", process, log), what="it serves")
        status, told = status_of(f"{stack.url}/predict", PLAIN)
        assert (status, told["model"]) == (200, "digits")
        assert "drift" in told["predictions"][0]
        wait_until(lambda: "page " in log.read_text(), what="it says where the page is")
        assert "note: nothing can be trained here: the train extra (torch" in log.read_text()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    status, said = run(program, "doctor", stack=stack, folder=folder)
    assert status == 0, said
    assert "it only serves and scores" in said
