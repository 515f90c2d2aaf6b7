"""Laws of resuming: a run that was killed ends with the weights it would have had."""

import math
import signal
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from models.data import DataSet, Rows
from models.nets import factories
from models.training import checkpoint
from models.training import loop as training
from models.training.loop import Recipe, TrainResult, train
from tests.killing import in_child
from tests.waiting import wait_until

RECIPE = Recipe(max_steps=14, attack_steps=2, augment=("noise",))
SPEC = {"shape": [1, 8, 8], "classes": 10, "widths": [4, 8], "hidden": 16}


@pytest.fixture
def rows(digits: DataSet) -> Rows:
    return digits.train.take(np.arange(200))


def run(
    rows: Rows,
    digits: DataSet,
    path: Path | None,
    recipe: Recipe = RECIPE,
    progress: training.Progress | None = None,
) -> TrainResult:
    torch.manual_seed(0)
    net = factories.build(
        factories.NetSpec("small_conv", SPEC | {"dropout": 0.2, "batch_norm": True})
    )
    return train(net, rows, digits.schema, recipe, checkpoint=path, progress=progress)


def stop_after(
    steps: int, rows: Rows, digits: DataSet, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with a checkpoint after each step that ends before step `steps`."""

    class Killed(BaseException):
        pass

    def stop(step: int) -> None:
        if step == steps:
            raise Killed

    step = training._Run.step
    with monkeypatch.context() as patched:
        patched.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
        patched.setattr(training._Run, "step", lambda self, n: (stop(n), step(self, n))[1])
        with pytest.raises(Killed):
            run(rows, digits, path)


def weights(result: TrainResult) -> dict[str, torch.Tensor]:
    return result.net.state_dict()


@pytest.mark.parametrize("steps", [1, 5, 13])
def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(
    steps: int, rows: Rows, digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.safetensors"
    stop_after(steps, rows, digits, path, monkeypatch)
    resumed = run(rows, digits, path)
    assert resumed.resumed_from == steps
    whole = run(rows, digits, None)
    assert whole.resumed_from == 0
    for name, value in weights(whole).items():
        assert torch.equal(weights(resumed)[name], value), name


def test_a_run_killed_by_the_system_is_taken_up(
    rows: Rows, digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    path, recipe = tmp_path / "run.safetensors", msgspec.structs.replace(RECIPE, max_steps=4000)
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
    child = in_child(lambda: run(rows, digits, path, recipe))
    wait_until(path.exists, what="a checkpoint")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 1e9)
    restored: list[checkpoint.Done] = []
    restore = checkpoint.restore

    def restore_and_stop(*args: object) -> checkpoint.Done:
        restored.append(restore(*args))  # type: ignore[arg-type]
        # That it goes on is proven above; where from is the question.
        return restored[0]._replace(steps=recipe.max_steps or 0)

    monkeypatch.setattr(checkpoint, "restore", restore_and_stop)
    result = run(rows, digits, path, recipe)
    assert restored[0].steps > 0
    assert result.cpu_seconds >= restored[0].cpu_seconds > 0, "of all runs together"


def test_progress_begins_at_the_step_that_a_run_is_taken_up_from(
    rows: Rows, digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.safetensors"
    reports: list[tuple[int, bool]] = []
    stop_after(13, rows, digits, path, monkeypatch)

    def note(step: int, steps: int, loss: float) -> None:
        reports.append((step, math.isfinite(loss)))

    run(rows, digits, path, progress=note)
    assert reports[0] == (13, False), "no loss is known yet"
    assert reports[1:] == [(14, True)]


def test_a_run_that_was_stopped_after_its_training_trains_no_step_again(
    rows: Rows, digits: DataSet, tmp_path: Path
) -> None:
    path = tmp_path / "run.safetensors"
    first = run(rows, digits, path)
    again = run(rows, digits, path)
    assert again.resumed_from == again.steps == 14
    facts = checkpoint._metadata(path.read_bytes())
    assert again.cpu_seconds >= float(facts["cpu_seconds"]) > 0, "of both runs together"
    for name, value in weights(first).items():
        assert torch.equal(weights(again)[name], value), name


def test_a_checkpoint_of_another_run_is_not_used(
    rows: Rows, digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.safetensors"
    run(rows, digits, path)
    assert run(rows, digits, path).resumed_from == 14
    other = msgspec.structs.replace(RECIPE, eps=0.1)
    assert run(rows, digits, path, other).resumed_from == 0
    assert run(rows.take(np.arange(199)), digits, path).resumed_from == 0
    assert run(rows, digits, path).resumed_from == 0, "overwritten by the run before"


@pytest.mark.parametrize("damage", [b"", b"12345678", b"\xff" * 64, None])
def test_a_damaged_checkpoint_begins_anew(
    damage: bytes | None, rows: Rows, digits: DataSet, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = tmp_path / "run.safetensors"
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
    run(rows, digits, path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if damage is None else damage)
    assert run(rows, digits, path).resumed_from == 0
