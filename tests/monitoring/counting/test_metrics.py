import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families as parse

from models.versions.registry import Registry
from models.versions.runner import Runner
from monitoring.counting.likelihood_cells import CHANNEL, count_cells, likelihood_cells
from monitoring.counting.metrics import Flags, Metrics, ModelMetrics
from monitoring.counting.shared_counters import exposition
from monitoring.loop.metrics import WatchMetrics
from tests import bundles
from tests.models.report_example import read

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: bytes) -> Samples:
    return {
        (s.name, frozenset(s.labels.items())): s.value
        for family in parse(text.decode())
        for s in family.samples
        if not s.name.endswith("_created")
    }


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    registry = Registry(tmp_path_factory.mktemp("registry"))
    bundles.publish(registry.root)
    return Runner(registry.open("digits"))


def count(runner: Runner, x: Any, parts: list[slice]) -> Samples:
    metrics = Metrics()
    served = ModelMetrics(metrics, runner.manifest)
    for part in parts:
        answer = runner.run(x[part])
        predicted = answer.probabilities.argmax(axis=1)
        served.count(answer, predicted, Flags.of(answer, runner.manifest))
    return samples(exposition(metrics.registry, None)())


def test_a_batch_counts_like_its_rows_one_by_one(runner: Runner) -> None:
    x = bundles.digits().test.x[:200].copy()
    x[50:90] = 16.0 - x[50:90]
    one_by_one = count(runner, x, [slice(i, i + 1) for i in range(200)])
    at_once = count(runner, x, [slice(0, 120), slice(120, 121), slice(121, 200)])
    for key, value in one_by_one.items():
        if not key[0].startswith("holdfast_batch_rows"):
            assert at_once[key] == pytest.approx(value, rel=1e-5), key
    flagged = [v for (name, _), v in at_once.items() if name == "holdfast_flagged_total"]
    assert any(flagged)


def test_cells_are_counted_under_channel_and_two_digit_index(runner: Runner) -> None:
    x = bundles.digits().test.x[:100]
    found, cells = count(runner, x, [slice(0, 100)]), runner.run(x).cells
    for column, channel in enumerate(runner.manifest.channels):
        expected = np.bincount(cells[:, column], minlength=len(channel.labels))
        for cell, rows in enumerate(expected):
            labels = {"model": "digits", "version": "1", "channel": channel.name}
            labels["cell"] = f"{cell:02d}"
            key = ("holdfast_cell_observations_total", frozenset(labels.items()))
            assert found[key] == rows


def test_suspicion_and_likelihood_are_counted_beside_the_channels_without_repeats(
    runner: Runner,
) -> None:
    x, fresh = bundles.digits().test.x[:60], np.arange(60) % 3 > 0
    answer, calibration = runner.run(x), runner.manifest.calibration
    metrics = Metrics()
    counted = ModelMetrics(metrics, runner.manifest)
    flags = Flags.of(answer, runner.manifest)
    counted.count(answer, answer.probabilities.argmax(axis=1), flags, fresh)
    found = samples(exposition(metrics.registry, None)())
    edges = calibration.suspicion_edges
    cells = likelihood_cells(answer.suspicion, answer.perturbation_likelihood, edges)
    for cell, rows in enumerate(np.bincount(cells[fresh], minlength=count_cells(calibration))):
        labels = {"model": "digits", "version": "1", "channel": CHANNEL, "cell": f"{cell:02d}"}
        assert found["holdfast_cell_observations_total", frozenset(labels.items())] == rows
    kind = frozenset({"model": "digits", "kind": "suspicious"}.items())
    assert found["holdfast_flagged_total", kind] == flags.suspicious.sum()


def test_the_last_p_value_bucket_holds_all_rows(runner: Runner) -> None:
    found = count(runner, bundles.digits().test.x[:64], [slice(0, 64)])
    for name in ("drift_p_value", "perturbation_likelihood"):
        for bound in ("1.0", "+Inf"):
            key = (f"holdfast_{name}_bucket", frozenset({"model": "digits", "le": bound}.items()))
            assert found[key] == 64


WORKER = """
import os, signal, sys, pathlib
from models.base import locks as slots
from monitoring.counting.metrics import Metrics
from monitoring.counting.shared_counters import share_counters
directory = pathlib.Path(sys.argv[1])
slot = slots.acquire(directory)
share_counters(directory, slot.number)
metrics = Metrics()
metrics.flagged.labels("m", "drift").inc(5)
metrics.model_loaded.labels("m", "1").set(float(sys.argv[2]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_counters_of_killed_workers_go_on_in_their_slot(tmp_path: Path) -> None:
    scrape = exposition(Metrics().registry, tmp_path)
    for life in range(1, 5):
        done = subprocess.run([sys.executable, "-c", WORKER, str(tmp_path), str(life)], check=False)
        assert done.returncode == -9
        found = samples(scrape())
        labels = frozenset({"model": "m", "kind": "drift"}.items())
        assert found["holdfast_flagged_total", labels] == 5 * life
        loaded = frozenset({"model": "m", "version": "1"}.items())
        assert found["holdfast_model_loaded_timestamp_seconds", loaded] == life
    files = {path.name for path in tmp_path.glob("*.db")}
    assert files == {"counter_0.db", "gauge_max_0.db", "histogram_0.db"}


P = {"value": 0.9, "low": 0.85, "high": 0.93, "n": 300}
CASCADE = "apgd-ce + apgd-t + square"


@pytest.mark.parametrize(
    ("told", "suite", "attack"),
    [
        ({"suite": "full", "robust": P | {"attack": CASCADE, "eps": 0.15}}, "full", CASCADE),
        ({"suite": "quick", "robust": P | {"attack": "square", "eps": 0.15}}, "quick", "square"),
    ],
)
def test_evaluation_is_shown_by_its_own_suite_and_attacks_and_only_the_champions(
    runner: Runner, told: dict[str, Any], suite: str, attack: str
) -> None:
    curve = [{"attack": "apgd-ce-10", "eps": 0.3, **P}]
    figures = {"clean": P | {"value": 0.97}, "eps": 0.15, "robust_curve": curve} | told
    metrics, judged = WatchMetrics(), read(figures)
    for version in (4, 5):
        manifest = msgspec.structs.replace(runner.manifest, version=version, evaluation=judged)
        metrics.show_version(manifest, [])
    found = samples(generate_latest(metrics.registry))
    name = "holdfast_evaluation_accuracy_ratio"
    shown = [(dict(labels), value) for (n, labels), value in found.items() if n == name]
    common = {"model": "digits", "version": "5", "suite": suite}
    points = [("none", "0", 0.97), (attack, "0.15", 0.9), ("apgd-ce-10", "0.3", 0.9)]
    for a, eps, value in points:
        assert (common | {"attack": a, "eps": eps}, value) in shown
    assert len(shown) == len(points)
