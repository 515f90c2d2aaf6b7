"""Series of a replica are bounded, whatever users have: classes, versions, clients, columns."""

import msgspec
import numpy as np
import onnx
import pytest
from prometheus_client import generate_latest

from models.versions.schema import Calibration, ChannelInfo, InputSchema, Manifest
from monitoring.counting.class_names import MOST_CLASSES, OTHERS, fold_classes, name_classes
from monitoring.counting.counters import read_page
from monitoring.counting.metrics import Metrics, ModelMetrics
from monitoring.counting.shared_counters import MOST_VERSIONS
from monitoring.scoring.instrument import Instrumented

MANY = 2500


def make_manifest(classes: int, version: int = 1, model: str = "m") -> Manifest:
    names = tuple(f"class {k}" for k in range(classes))
    folded = fold_classes(names, np.arange(classes))
    scores = ChannelInfo("energy", "score", tuple(f"{c:02}" for c in range(72)))
    channels = (scores, ChannelInfo("class", "class", folded.labels))
    schema = InputSchema("input", (1, 8, 8), "float32", 0.0, 1.0, "image")
    facts = Calibration(5000, 0.01, 0.5, 0.5, "", 1.0, 0.03, 1)
    made = Instrumented(onnx.ModelProto(), channels, {}, facts)
    return msgspec.structs.replace(made.manifest(model, schema, names), version=version)


def count_series(metrics: Metrics, name: str = "holdfast_") -> int:
    lines = generate_latest(metrics.registry).decode().splitlines()
    return sum(line.startswith(name) for line in lines)


def test_classes_that_were_predicted_most_keep_their_names() -> None:
    counts = np.zeros(MANY)
    counts[[7, 2400]] = 5, 9
    labels, place = fold_classes([f"class {k}" for k in range(MANY)], counts)
    assert len(labels) == len(set(labels)) == MOST_CLASSES
    assert labels[-1] == OTHERS
    assert labels[place[7]] == "class 7"
    assert labels[place[2400]] == "class 2400"
    assert (place == MOST_CLASSES - 1).sum() == MANY - MOST_CLASSES + 1


def test_a_thousand_classes_have_a_series_each_and_more_have_no_more() -> None:
    sizes = {}
    for classes in (MOST_CLASSES, MANY):
        metrics = Metrics()
        ModelMetrics(metrics, make_manifest(classes))
        assert count_series(metrics, "holdfast_predictions_total") == MOST_CLASSES
        sizes[classes] = count_series(metrics)
    assert sizes[MANY] == sizes[MOST_CLASSES]


def test_names_of_predictions_are_those_of_the_cells_of_the_class_channel() -> None:
    manifest = make_manifest(MANY)
    labels, place = name_classes(manifest)
    assert labels == manifest.channels[-1].labels
    assert labels[place[MANY - 1]] == f"class {MANY - 1}", "the most predicted of the fixture"
    assert labels[place[0]] == OTHERS


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1e9]
    monkeypatch.setattr("monitoring.counting.metrics.time.time", lambda: now[0])
    return now


def test_a_page_shows_the_versions_in_use_and_not_all_there_ever_were(clock: list[float]) -> None:
    metrics = Metrics()
    first = ModelMetrics(metrics, make_manifest(3))
    first.note_load()
    other = ModelMetrics(metrics, make_manifest(3, model="other"))
    other.note_load()
    sizes = []
    for version in range(2, 31):
        clock[0] += 60
        ModelMetrics(metrics, make_manifest(3, version)).note_load()
        first._last.set(clock[0] + 1)  # a champion beside its canaries: it answers all the time
        sizes.append(count_series(metrics))
    assert sizes[-1] == sizes[MOST_VERSIONS]
    page = read_page(generate_latest(metrics.registry).decode())
    shown = {int(version) for model, version, _, _ in page.cells if model == "m"}
    assert shown == {1, *range(31 - MOST_VERSIONS + 1, 31)}
    assert any(model == "other" for model, *_ in page.cells)


def test_labels_of_the_service_are_those_that_are_bounded() -> None:
    metrics = Metrics()
    ModelMetrics(metrics, make_manifest(3))
    labels = {
        name
        for metric in metrics.registry.collect()
        for sample in metric.samples
        for name in sample.labels
    }
    assert labels <= {
        "route", "method", "code", "le",  # of the program
        "kind", "reason", "stage", "correct", "certified",  # words
        "model",  # of the registry
        "version",  # MOST_VERSIONS of a model
        "class",  # MOST_CLASSES
        "channel", "cell",  # as the manifest has them
    }, "a new label: say in docs/scale.md what bounds it"  # fmt: skip
