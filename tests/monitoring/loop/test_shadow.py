"""Laws of the shadow: two real versions of the digits, records and labels in a real store."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper

from models.data import DataSet
from models.statistics.shadow import Agreement, ShadowComparison, Shadowed
from models.versions import bundle as files
from models.versions.facts import EventFacts
from models.versions.registry import Registry
from models.versions.runner import Runner
from monitoring.loop import shadow
from monitoring.loop.jobs import Job, Task
from monitoring.loop.metrics import WatchMetrics
from monitoring.loop.shadow import Shadow
from monitoring.loop.steps import run_beside
from monitoring.records.store import Key, Record, RecordStore
from tests.conftest import Published
from tests.monitoring.loop.versions import copy_of
from tests.processes import children_with
from tests.waiting import wait_until

SWAPPED = np.array([0, 1, 2, 8, 4, 5, 6, 7, 3, 9])  # a version that takes 3 for 8, and 8 for 3


@pytest.fixture
def registry(published: Published, tmp_path: Path) -> Registry:
    """Version 1, and version 2 that answers with 3 and 8 interchanged."""
    shutil.copytree(published.registry.root, tmp_path / "registry")
    made = Registry(tmp_path / "registry")
    copy = copy_of(made, "digits", 1, EventFacts("swap"))

    def make(number: int) -> tuple[dict[str, bytes], files.Manifest]:
        contents, manifest = copy(number)
        model = onnx.load_from_string(contents[files.MODEL])
        graph = model.graph
        for node in graph.node:
            node.output[:] = ["straight" if n == "probabilities" else n for n in node.output]
            node.input[:] = ["straight" if n == "probabilities" else n for n in node.input]
        graph.initializer.append(helper.make_tensor("swap", onnx.TensorProto.INT64, [10], SWAPPED))
        graph.node.append(
            helper.make_node("Gather", ["straight", "swap"], ["probabilities"], axis=1)
        )
        return {**contents, files.MODEL: model.SerializeToString()}, manifest

    assert made.publish("digits", make, actor="test", reason="test") == 2
    return made


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(f"sqlite:///{tmp_path}/records.sqlite")


def runner(registry: Registry, version: int) -> Runner:
    return Runner(registry.open("digits", str(version)))


def answer(store: RecordStore, served: Runner, x: np.ndarray, name: str) -> list[Key]:
    predicted = served.run(x).probabilities.argmax(axis=1)
    version, now = served.manifest.version, time.time()
    store.add(
        [
            Record(
                f"{name}{k}", 0, now, "digits", version, row.tobytes(), int(p), 0.5, 0.1, 0.9, 0.3
            )
            for k, (row, p) in enumerate(zip(x, predicted, strict=True))
        ]
    )
    return [Key(f"{name}{k}", 0) for k in range(len(x))]


def label(store: RecordStore, keys: list[Key], y: np.ndarray) -> None:
    found = store.find(keys)
    store.add_feedback([(key, found[key], int(true)) for key, true in zip(keys, y, strict=True)])


@pytest.mark.parametrize("serving", [1, 2])
def test_both_versions_are_compared_on_the_same_requests_whichever_serves(
    registry: Registry, store: RecordStore, digits: DataSet, serving: int
) -> None:
    champion, challenger = runner(registry, 1), runner(registry, 2)
    served = champion if serving == 1 else challenger
    x, y = digits.test.x[:150], digits.test.y[:150]
    answer(store, champion if serving == 2 else challenger, x[:20], "another version's ")
    made = Shadow(store, champion, challenger, serving=served, since=time.time() - 60)
    keys = answer(store, served, x, "r")
    label(store, keys[:50], y[:50])
    first = made.look()
    more = answer(store, served, x[:0], "none")
    assert (more, first.agreement.requests, first.comparison.labels) == ([], 150, 50)
    label(store, keys[50:], y[50:])
    shadowed = made.look()

    a, b = (each.run(x).probabilities.argmax(axis=1) for each in (champion, challenger))
    np.testing.assert_array_equal(SWAPPED[a], b)
    assert shadowed.agreement.disagreed == (a != b).sum() > 10
    pairs = shadowed.comparison
    assert pairs.verdict == shadowed.verdict == "worse"
    seen = pairs.labels
    assert pairs.champion_only == ((a == y) & (b != y))[:seen].sum()
    assert pairs.challenger_only == ((b == y) & (a != y))[:seen].sum()
    assert shadowed.champion_seconds > 0 < shadowed.challenger_seconds
    assert "worse than the champion on the same requests: of 150 live requests" in shadowed.words()


def test_a_label_that_comes_before_its_request_was_read_is_not_lost(
    registry: Registry, store: RecordStore, digits: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = runner(registry, 1)
    made = Shadow(store, champion, runner(registry, 1), serving=champion, since=time.time() - 60)
    keys = answer(store, champion, digits.test.x[:5], "r")
    label(store, keys, digits.test.y[:5])
    with monkeypatch.context() as patch:  # the request was recorded after the look at requests
        patch.setattr(made, "_answer", lambda: None)
        assert made.look().comparison.labels == 0
    assert made.look().comparison.labels == 5


def test_without_labels_the_agreement_decides(
    registry: Registry, store: RecordStore, digits: DataSet
) -> None:
    champion = runner(registry, 1)
    made = Shadow(store, champion, runner(registry, 1), serving=champion, since=time.time() - 60)
    for part in range(2):
        answer(store, champion, digits.test.x[:200], f"p{part} ")
        made.look()
    shadowed = made.shadowed
    assert (shadowed.verdict, shadowed.comparison.labels) == ("no worse", 0)
    assert "of 400 live requests 0 answered differently" in shadowed.words()


def test_the_process_writes_what_it_saw_without_torch_until_it_is_ended(
    registry: Registry, store: RecordStore, digits: DataSet, tmp_path: Path
) -> None:
    job = Job("j", "evaluate", "digits", 1, "accuracy", "r", 0.0, time.time(), challenger=2)
    url = f"sqlite:///{tmp_path}/records.sqlite"
    task = Task(job=job, registry=str(registry.root), database_url=url, retrain_epochs=1)
    (tmp_path / "shadow.task.json").write_bytes(msgspec.json.encode(task))

    def agreement() -> Agreement | None:
        shadowed = latest()
        return None if shadowed is None else shadowed.agreement

    kept: list[Shadowed] = []
    lost: list[str] = []
    with run_beside(tmp_path, "shadow", kept.append, lost.append) as latest:
        wait_until(lambda: agreement() == Agreement(), what="the shadow has begun")
        keys = answer(store, runner(registry, 1), digits.test.x[:30], "r")
        label(store, keys, digits.test.y[:30])
        wait_until(lambda: latest().comparison.labels == 30, what="it has answered")
        (process,) = children_with(str(tmp_path))
        process.kill()
        wait_until(lambda: agreement() == Agreement(), what="it has begun again")
        keys = answer(store, runner(registry, 1), digits.test.x[:20], "again ")
        label(store, keys, digits.test.y[:20])
        wait_until(lambda: latest().comparison.labels == 20, what="it has answered again")
    assert (kept[0].agreement.requests, lost) == (20, [])
    code = "import sys, monitoring.loop.shadow; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_comparison_that_cannot_be_ends_and_says_why(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow.os, "nice", lambda by: by)
    (registry.root / "digits" / "2" / "model.onnx").write_bytes(b"damaged")
    job = Job("j", "evaluate", "digits", 1, "accuracy", "r", 0.0, time.time(), challenger=2)
    task = Task(job, str(registry.root), f"sqlite:///{tmp_path}/r.sqlite", retrain_epochs=1)
    (tmp_path / "probation.task.json").write_bytes(msgspec.json.encode(task))
    assert shadow.main("probation", tmp_path) == 1
    assert "digits/2" in (tmp_path / "probation.error").read_text()


def test_the_last_comparison_is_a_series() -> None:
    metrics, pairs = WatchMetrics(), ShadowComparison(3, 2, 95)
    seen = Shadowed(pairs, Agreement(400, 7), 0.001, None)
    job = Job("j", "retrain", "digits", 1, "person", "", 0.0, 0.0, shadow=seen)
    metrics.show_job(job)

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"holdfast_{name}", {"model": "digits"} | labels)

    assert [value("shadow_requests", answers=a) for a in ("alike", "different")] == [393, 7]
    sides = ("champion", "challenger", "both or none")
    assert [value("shadow_labels", right=side) for side in sides] == [3, 2, 95]
    assert value("shadow_run_seconds", role="champion") == 0.001
    assert np.isnan(value("shadow_run_seconds", role="challenger"))
