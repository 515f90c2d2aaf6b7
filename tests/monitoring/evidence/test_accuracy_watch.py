"""Laws of the watch over accuracy: bounded work, honest absence, no say in what the loop does."""

import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from scipy.stats import entropy

from models.corruptions import QUICK
from models.data import DataSet
from models.evaluation.subject import answer
from models.versions.registry import Registry
from models.versions.runner import Runner
from models.versions.schema import InputArray
from monitoring.evidence import accuracy_watch
from monitoring.evidence.accuracy_estimate import Facts, estimate, evidence
from monitoring.evidence.accuracy_watch import AccuracyWatch, list_alarmed_channels
from monitoring.evidence.bets import ChannelReference
from monitoring.evidence.channels import StreamEvidence
from monitoring.evidence.label_shift import CONFUSION
from monitoring.evidence.stream import references
from monitoring.loop.jobs import JobStore
from monitoring.loop.metrics import WatchMetrics
from monitoring.loop.triggers import Policy
from monitoring.records.store import Key, Record, RecordStore
from monitoring.watching.status import describe_models
from monitoring.watching.watcher import Watcher, WatchPlan
from tests.conftest import Published

C = 1e4


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    made = RecordStore(f"sqlite:///{tmp_path}/records.sqlite")
    yield made
    made.close()


def stream_of(published: Published) -> StreamEvidence:
    """Evidence that has seen nothing."""
    return StreamEvidence(references(published.bundle), c=C)


def ask(
    store: RecordStore, published: Published, x: InputArray, *, at: float = 100.0, tag: str = "r"
) -> np.ndarray:
    """Record the requests as the service does; what was predicted."""
    told = answer(published.runner, x)
    probabilities = told.probabilities.astype(float)
    predicted = probabilities.argmax(axis=1)
    scores = told.drift_p_value, probabilities.max(axis=1), entropy(probabilities, axis=1)
    columns = zip(x, predicted.tolist(), *(each.tolist() for each in scores), strict=True)
    store.add(
        [
            Record(f"{tag}{k}", 0, at, "digits", 1, row.tobytes(), p, v, 0.1, top, doubt)
            for k, (row, p, v, top, doubt) in enumerate(columns)
        ]
    )
    return predicted


def label(store: RecordStore, truth: np.ndarray, tag: str = "r") -> None:
    keys = [Key(f"{tag}{k}", 0) for k in range(len(truth))]
    found = store.find(keys)
    store.add_feedback([(key, found[key], int(y)) for key, y in zip(keys, truth, strict=True)])


def test_bundle_keeps_the_facts_and_its_own_confusion(
    published: Published, digits: DataSet
) -> None:
    told = answer(published.runner, digits.calibration.x).probabilities.argmax(axis=1)
    counts = published.bundle.reference[CONFUSION]
    assert counts.sum() == len(digits.calibration)
    assert np.trace(counts) == (told == digits.calibration.y).sum()


def test_estimate_on_unseen_rows_agrees_with_their_labels(
    published: Published, digits: DataSet, store: RecordStore
) -> None:
    predicted = ask(store, published, digits.test.x)
    watch = AccuracyWatch(published.bundle, store)
    for k in range(3):
        told = watch.look(stream_of(published), now=100.0 + 10 * k)
    accuracy = float((predicted == digits.test.y).mean())
    assert told.estimated is not None
    assert told.estimated.trustworthy
    assert told.estimated.low <= accuracy <= told.estimated.high
    assert told.estimated.value == pytest.approx(accuracy, abs=0.03)
    assert told.absent == ""
    assert told.observed is not None
    assert told.observed.coverage.value == 0
    assert math.isnan(told.observed.accuracy.value)
    label(store, digits.test.y)
    told = watch.look(stream_of(published), now=200.0)
    assert told.observed is not None
    assert told.observed.accuracy.value == pytest.approx(accuracy, abs=1e-4)
    assert told.observed.coverage.value == 1


@pytest.mark.parametrize(
    ("name", "severity", "most"),
    [("darkness", 2, 0.04), ("shift", 3, 0.07), ("shot_noise", 3, 0.04)],
)
def test_estimate_follows_a_mild_shift(
    name: str, severity: int, most: float, published: Published, digits: DataSet
) -> None:
    rng, facts = np.random.default_rng(1), Facts.of(published.bundle.reference)
    unit = QUICK[name].corrupt(digits.schema.to_unit(digits.test.x), severity, rng)
    told = answer(published.runner, digits.schema.from_unit(unit))
    assert facts is not None
    guess = estimate(facts, evidence(told), told.drift_p_value)
    truth = float((told.probabilities.argmax(axis=1) == digits.test.y).mean())
    assert guess is not None
    assert guess.low <= truth <= guess.high
    assert guess.value == pytest.approx(truth, abs=most)


def test_work_of_a_look_is_bounded_and_looks_are_rare(
    published: Published, digits: DataSet, store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    run = Runner.run
    monkeypatch.setattr(Runner, "run", lambda self, x: ran.append(len(x)) or run(self, x))
    watch, quiet = AccuracyWatch(published.bundle, store), stream_of(published)
    ran.clear()
    ask(store, published, np.tile(digits.test.x, (4, 1, 1, 1)))
    ran.clear()
    watch.look(quiet, now=100.0)
    assert sum(ran) == accuracy_watch.NEW_MOST
    watch.look(quiet, now=101.0)
    watch.look(quiet, now=106.0)  # nothing new
    assert sum(ran) == accuracy_watch.NEW_MOST
    monkeypatch.setattr(accuracy_watch, "WINDOW", 250)
    ask(store, published, digits.test.x[:100], tag="s")
    ran.clear()
    told = watch.look(quiet, now=112.0)
    assert sum(ran) == 100
    assert told.estimated is not None
    assert told.estimated.n == 250


def test_versions_of_before_have_no_estimate_and_say_so(
    published: Published, digits: DataSet, store: RecordStore
) -> None:
    ask(store, published, digits.test.x)
    old = {k: v for k, v in published.bundle.reference.items() if not k.startswith("accuracy/")}
    watch = AccuracyWatch(replace(published.bundle, reference=old), store)
    told = watch.look(stream_of(published), now=100.0)
    assert told.estimated is None
    assert "made without labelled rows" in told.absent
    assert told.observed is not None, "labels are looked at all the same"


def test_few_requests_give_no_estimate(
    published: Published, digits: DataSet, store: RecordStore
) -> None:
    ask(store, published, digits.test.x[:50])
    told = AccuracyWatch(published.bundle, store).look(stream_of(published), now=100.0)
    assert told.estimated is None
    assert "fewer than" in told.absent


def cells_of(published: Published, x: InputArray) -> dict[str, np.ndarray]:
    told = answer(published.runner, x).cells
    return {
        channel.name: np.bincount(column, minlength=len(channel.labels))
        for channel, column in zip(published.bundle.manifest.channels, told.T, strict=True)
    }


def test_flag_rises_with_an_alarm_of_the_inputs(
    published: Published, digits: DataSet, store: RecordStore
) -> None:
    dark = digits.test.x * np.float32(0.4)
    ask(store, published, dark)
    stream = stream_of(published)
    watch = AccuracyWatch(published.bundle, store)
    before = watch.look(stream, now=100.0)
    stream.update(cells_of(published, dark))
    told = watch.look(stream, now=110.0)
    assert before.estimated is not None
    assert before.estimated.trustworthy
    assert told.estimated is not None
    assert not told.estimated.trustworthy
    assert stream.alarm is not None
    assert stream.alarm.channel in told.estimated.why
    assert told.label_shift is None


def test_shift_of_classes_alone_is_estimated_and_trusted(
    published: Published, digits: DataSet, store: RecordStore
) -> None:
    zeros = np.flatnonzero(digits.test.y == 0)
    chosen = np.concatenate([zeros, np.flatnonzero(digits.test.y != 0)[:80]])
    ask(store, published, digits.test.x[chosen])
    alpha = published.bundle.reference["class/alpha"]
    names = published.bundle.manifest.classes
    stream = StreamEvidence([ChannelReference("class", "class", alpha, names)], c=C)
    counts = cells_of(published, digits.test.x[chosen])["class"]
    stream.update({"class": counts})
    assert list_alarmed_channels(stream) == ["class"]
    told = AccuracyWatch(published.bundle, store).look(stream, now=100.0)
    assert told.label_shift is not None
    true = float((digits.test.y[chosen] == 0).mean())
    share = told.label_shift.shares["0"]
    assert share.value == pytest.approx(true, abs=0.05)
    assert share.low <= true <= share.high
    assert share.before == pytest.approx(0.1, abs=0.03)
    assert told.estimated is not None
    assert told.estimated.trustworthy
    assert told.estimated.low <= told.label_shift.accuracy.low
    assert told.estimated.high >= told.label_shift.accuracy.high


def test_low_estimate_starts_nothing_and_is_shown(
    published: Published,
    digits: DataSet,
    store: RecordStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    x = digits.test.x[rng.permutation(len(digits.test))[:300]]
    ask(store, published, rng.permuted(x.reshape(300, -1), axis=1).reshape(x.shape))
    engine = sa.create_engine(f"sqlite:///{tmp_path}/jobs.sqlite")
    plan = WatchPlan((), str(tmp_path), 1.0, 1e6, Policy())
    started: list[object] = []
    jobs, metrics = JobStore(engine), WatchMetrics()
    shutil.copytree(published.registry.root, tmp_path / "registry")
    registry = Registry(tmp_path / "registry")
    registry.promote("digits", 1, expected=None, actor="tests", reason="first")
    watcher = Watcher(plan, registry, store, jobs, metrics, started.append)
    for k in range(4):
        watcher.tick(1000.0 + 10 * k)
    (told,) = describe_models(watcher)
    assert told.accuracy is not None
    estimated = told.accuracy.estimated
    assert estimated is not None
    assert estimated.low < 0.5 < estimated.high
    assert not started
    assert jobs.all() == []
    value = metrics.registry.get_sample_value
    for bound in ("value", "low", "high"):
        labels = {"model": "digits", "bound": bound}
        assert value("holdfast_estimated_accuracy_ratio", labels) == getattr(estimated, bound)
    assert value("holdfast_estimated_accuracy_trustworthy", {"model": "digits"}) == 1
    assert value("holdfast_label_coverage_ratio", {"model": "digits"}) == 0
    assert math.isnan(value("holdfast_label_delay_seconds", {"model": "digits", "quantile": "0.9"}))
    msgspec.json.encode(told)

    def broken(*_: object) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(AccuracyWatch, "look", broken)
    watcher.tick(2000.0)  # a failure here stops nothing
    assert metrics.registry.get_sample_value("holdfast_watch_last_tick_timestamp_seconds") == 2000.0
    engine.dispose()
