"""The stream of suspicion and likelihood: counted apart, quick and slow, kept over a restart."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.data import DataSet
from models.evaluation.subject import answer
from models.statistics.arrays import IntArray
from monitoring.counting.likelihood_cells import CHANNEL, count_cells, likelihood_cells
from monitoring.evidence.perturbation.watch import (
    PerturbationState,
    PerturbationWatch,
    open_watch,
)
from monitoring.evidence.stream import Stream
from tests.conftest import Published


def watch_of(published: Published) -> PerturbationWatch:
    """A fresh watch of the published version."""
    watch = open_watch(published.bundle, c=1e6)
    assert watch is not None
    return watch


def cells_of(published: Published, x: np.ndarray) -> IntArray:
    """The cells that the service would count."""
    told = answer(published.runner, x)
    edges = published.bundle.manifest.calibration.suspicion_edges
    return likelihood_cells(told.suspicion, told.perturbation_likelihood, edges)


def test_cells_of_the_reference_are_what_the_reference_says(
    published: Published, digits: DataSet
) -> None:
    calibration, reference = published.bundle.manifest.calibration, published.bundle.reference
    assert count_cells(calibration) == reference[f"{CHANNEL}/kinds"].shape[1]
    for name in ("kinds", "attacks"):
        np.testing.assert_allclose(reference[f"{CHANNEL}/{name}"].sum(axis=1), 1, rtol=1e-5)
        assert (reference[f"{CHANNEL}/{name}"] > 0).all()
    rows = digits.calibration.x
    counts = np.bincount(cells_of(published, rows), minlength=count_cells(calibration))
    own = counts.reshape(len(calibration.suspicion_edges) + 1, -1).sum(axis=1)
    weights = reference[f"{CHANNEL}/alpha"]
    assert np.abs(own - weights).max() <= 0.02 * len(rows) + 1
    assert weights.sum() == len(rows) + 1


def test_noise_moves_the_quick_stream_and_the_slow_one_is_silent(
    published: Published, digits: DataSet
) -> None:
    rng, watch = np.random.default_rng(0), watch_of(published)
    unit = digits.schema.to_unit(digits.test.x)
    dark = digits.schema.from_unit(np.clip(unit * 0.35, 0, 1))
    cells = cells_of(published, dark)
    for _ in range(10):
        raised = watch.update(np.bincount(rng.choice(cells, 60), minlength=watch.cells), 1.0)
        assert not raised
    evidence = watch.log10_evidence()
    assert evidence["quick"] > 6 > evidence["slow"]
    assert watch.alarm_since is None


def test_an_attack_raises_the_slow_stream_and_the_state_survives(published: Published) -> None:
    watch, rng = watch_of(published), np.random.default_rng(1)
    attacks = published.bundle.reference[f"{CHANNEL}/attacks"].astype(np.float64)[0]
    attacks /= attacks.sum()
    looks = 0
    while not watch.update(rng.multinomial(60, attacks), 7.0):
        looks += 1
        assert looks < 60  # few held-out rows: the upper ends of benign kinds lie high
    assert watch.slow.alarm
    assert watch.alarm_since == 7.0
    assert "attacked" in watch.words
    state = msgspec.json.decode(msgspec.json.encode(watch.snapshot()), type=PerturbationState)
    again = watch_of(published)
    again.load(state)
    assert again.alarm_since == 7.0
    assert again.log10_evidence() == pytest.approx(watch.log10_evidence())


def test_the_stream_counts_it_beside_the_channels(published: Published, tmp_path: Path) -> None:
    stream = Stream.open(published.bundle, tmp_path, c=1e6)
    assert stream.perturbation is not None
    manifest = published.bundle.manifest
    key = (manifest.model, str(manifest.version), CHANNEL)
    cells = range(stream.perturbation.cells)
    stream.add({"s": {(*key, cell): 0.0 for cell in cells}}, now=1.0)
    top = {(*key, cell): 70.0 * (cell == 0) for cell in cells}
    assert stream.add({"s": top}, now=2.0) is None, "no alarm of drift"
    assert stream.perturbation.slow.requests == 70
    assert stream.evidence.requests == 0
    assert not stream.refused
    stream.save()
    again = Stream.open(published.bundle, tmp_path, c=1e6)
    assert again.perturbation is not None
    assert again.perturbation.slow.requests == 70
