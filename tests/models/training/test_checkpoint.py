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


def weights(result: TrainResult) -> dict[str, torch.Tensor]:
    return result.net.state_dict()


@pytest.mark.parametrize("steps", [1, 5, 13])
def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(
    steps: int, rows: Rows, digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.safetensors"
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)

    class Killed(BaseException):
        pass

    def stop(step: int) -> None:
        if step == steps:
            raise Killed

    step = training._Run.step
    monkeypatch.setattr(training._Run, "step", lambda self, n: (stop(n), step(self, n))[1])
    with pytest.raises(Killed):
        run(rows, digits, path)
    monkeypatch.setattr(training._Run, "step", step)
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
    monkeypatch.setattr(training._Run, "step", lambda self, n: torch.tensor(float("nan")))
    seen: list[int] = []
    restore = checkpoint.restore

    def told(*args: object) -> int:
        seen.append(restore(*args))  # type: ignore[arg-type]
        return recipe.max_steps or 0  # that it goes on is proven above; where from is the question

    monkeypatch.setattr(checkpoint, "restore", told)
    run(rows, digits, path, recipe)
    assert seen[0] > 0


def test_progress_begins_at_the_step_that_a_run_is_taken_up_from(
    rows: Rows, digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.safetensors"
    told: list[tuple[int, bool]] = []
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
    run(rows, digits, path)

    def note(step: int, steps: int, loss: float) -> None:
        told.append((step, math.isfinite(loss)))

    run(rows, digits, path, progress=note)
    assert told[0] == (13, False), "no loss is known yet"
    assert all(step > 13 for step, _ in told[1:])


def test_a_checkpoint_of_another_run_is_not_used(
    rows: Rows, digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.safetensors"
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
    run(rows, digits, path)
    assert run(rows, digits, path).resumed_from == 13, "the last save is before the last step"
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
