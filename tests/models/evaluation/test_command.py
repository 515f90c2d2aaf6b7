"""`holdfast evaluate`: the result on disk, the champion beside it, and two processes as one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from models.versions.bundle import MODEL, REFERENCE
from models.versions.registry import Registry
from models.versions.schema import Manifest
from service.cli import main
from tests import bundles
from tests.printed import data_of
from tests.service import tables

ROOT = Path(__file__).parents[3]


def evaluate(state: Path, *options: str) -> Result:
    env = {"HOLDFAST_STATE": str(state)}
    return CliRunner().invoke(main, ["evaluate", "digits", *options], env=env)


def figures(state: Path, name: str, version: int = 1) -> dict[str, Any]:
    path = state / "evaluations" / "digits" / str(version) / f"{name}.json"
    told: dict[str, Any] = json.loads(path.read_text())
    return told


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with a wrapped champion of the digits."""
    folder = tmp_path_factory.mktemp("state")
    tables.publish_digits(folder / "registry")
    return folder


@pytest.fixture(scope="module")
def told(state: Path) -> Result:
    """What the command says of 150 rows: two blocks."""
    return evaluate(state, "--limit", "150", "--eps", "0.2", "--json")


def test_figures_and_report_are_written_and_printed(state: Path, told: Result) -> None:
    assert told.exit_code == 0, told.stderr
    assert data_of(told.stdout) == figures(state, "quick-150")
    assert figures(state, "quick-150")["threat"]["eps"] == 0.2
    assert figures(state, "quick-150")["n"] == 150
    page = (state / "evaluations" / "digits" / "1" / "quick-150.html").read_text()
    assert page.startswith(("<!doctype html>", "<!DOCTYPE html>"))
    assert "digits/1: judging 100%" in told.stderr


def test_a_second_run_does_nothing_anew(state: Path, told: Result) -> None:
    work = state / "evaluations" / "digits" / "1" / "work"
    before = {path: path.stat().st_mtime_ns for path in work.glob("*/*.npz")}
    assert before
    again = evaluate(state, "--limit", "150", "--eps", "0.2")
    assert "clean" in again.stdout
    assert "report:" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in work.glob("*/*.npz")} == before


def test_the_champion_stands_beside_a_challenger_but_not_beside_itself(
    state: Path, told: Result
) -> None:
    assert data_of(told.stdout)["previous"] is None
    folder = state / "evaluations" / "digits" / "1"
    (folder / "quick.json").write_bytes((folder / "quick-150.json").read_bytes())
    registry = Registry(state / "registry")
    facts = registry.manifest("digits", 1).training
    made = bundles.prepared("small", 0.5)

    def make(version: int) -> tuple[dict[str, bytes], Manifest]:
        first = registry.manifest("digits", 1)
        manifest = msgspec.structs.replace(
            first, version=version, calibration=made.calibration, training=facts, files={}
        )
        reference = bundles.npz(made.reference)
        return {MODEL: made.model.SerializeToString(), REFERENCE: reference}, manifest

    registry.publish("digits", make, actor="test", reason="test")
    challenger = data_of(evaluate(state, "--version", "2", "--limit", "20", "--json").stdout)
    assert challenger["previous"]["version"] == challenger["mce"]["relative_to"] == 1
    assert challenger["mce"]["low"] < 1 < challenger["mce"]["high"]


def test_a_version_that_does_not_know_its_data_is_refused(tmp_path: Path) -> None:
    bundles.publish(tmp_path / "registry")
    refused = evaluate(tmp_path)
    assert refused.exit_code == 1
    assert "does not say which data" in refused.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--eps", "8"), "8/255"),
        (("--version", "9"), "no version 9"),
        (("--autoattack",), "wrapped graph"),
        (("--norm", "l2"), "needs --eps"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    options: tuple[str, ...], words: str, state: Path
) -> None:
    told = evaluate(state, *options)
    assert told.exit_code in (1, 2)
    assert words in told.stderr


@pytest.mark.slow
def test_two_processes_give_the_figures_of_one(state: Path, told: Result) -> None:
    # Their state is another, so that nothing is found there.
    other = state.parent / f"{state.name}-shards"
    other.mkdir()
    (other / "registry").symlink_to(state / "registry")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HOLDFAST_")}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    command = [*torchrun, "2", "-m", "service", "evaluate", "digits"]
    done = subprocess.run(
        [*command, "--limit", "150", "--eps", "0.2", "--json"],
        cwd=ROOT,
        env=kept | {"HOLDFAST_STATE": str(other), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert data_of(done.stdout) == data_of(told.stdout), "printed once, and the same"
    assert figures(other, "quick-150") == figures(state, "quick-150")
    parts = list((other / "evaluations" / "digits" / "1" / "work").glob("*/*.npz"))
    assert len(parts) > 50
    assert not [path for path in parts if ".block" in path.name]
