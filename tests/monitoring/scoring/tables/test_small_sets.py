"""Laws of tables with few rows: strange rows can be flagged, and fresh ones seldom are."""

import numpy as np
import pytest

from models.data import DataSet
from models.statistics.arrays import FloatArray
from models.versions.judging import ThreatModel
from models.versions.runner import Answer, session
from models.versions.schema import OUTPUTS
from monitoring.scoring.instrument import Instrumented, Material, instrument
from monitoring.scoring.material import Victim, head_material
from monitoring.scoring.small_sets import DriftRows, cross_fit
from tests import bundles


def few(count: int) -> DataSet:
    """The table with so many rows in all."""
    data = bundles.table()
    sizes = (int(count * 0.6), int(count * 0.2), int(count * 0.2))
    parts = zip((data.train, data.calibration, data.test), sizes, strict=True)
    return DataSet("few", data.schema, data.classes, *(p.take(np.arange(n)) for p, n in parts))


def made(data: DataSet, drift: DriftRows | None) -> Instrumented:
    """The instrumented graph of `bundles.asked_only`, its perturbation head fitted on noise."""
    rng, schema = np.random.default_rng(0), data.schema
    noise = data.train.x + rng.normal(size=data.train.x.shape).astype(np.float32)
    material = Material(
        references=data.train.x[::2], fit_clean=data.train.x[1::2], fit_corrupted=noise,
        fit_adversarial=noise, held_clean=data.calibration.x, held_corrupted=noise[:30],
        held_adversarial=noise[30:60], reference=data.calibration.x, drift=drift,
    )  # fmt: skip
    plain = bundles.asked_only(bundles.table())
    return instrument(plain, schema, data.classes, material, source="few rows")


def ask(version: Instrumented, x: FloatArray) -> Answer:
    """One run."""
    runner = session(version.model.SerializeToString())
    return Answer(*runner.run(list(OUTPUTS), {"row": x.astype(np.float32)}))


def box(data: DataSet) -> FloatArray:
    """Rows with numbers even over the range."""
    rng, x = np.random.default_rng(1), bundles.table().test.x
    numeric = np.array([c.kind == "numeric" for c in data.schema.columns])
    even: FloatArray = np.where(numeric, data.schema.from_unit(rng.random(x.shape)), x)
    return even


@pytest.mark.slow
def test_few_rows_flag_strange_ones_and_seldom_fresh_ones() -> None:
    data = few(150)
    x = np.concatenate([data.train.x, data.calibration.x])
    version = made(data, DriftRows(x))
    facts = version.calibration
    assert (facts.n, facts.drift_rows, facts.drift_n, facts.drift_tested) == (30, 120, 120, True)
    assert (ask(version, box(data)).drift_p_value <= facts.alpha).mean() > 0.57
    fresh = np.concatenate([bundles.table().test.x, bundles.table().calibration.x[30:]])
    assert (ask(version, fresh).drift_p_value <= facts.alpha).mean() < 0.04
    assert ask(version, fresh).drift_p_value.min() >= 1 / 121 - 1e-6
    without = made(data, None)
    assert (ask(without, box(data)).drift_p_value > facts.alpha).all(), "30 rows flag nothing"


def test_every_row_is_scored_by_channels_that_have_not_seen_it() -> None:
    data = few(150)
    x = data.schema.to_unit(data.train.x)
    x[7] = np.nan_to_num(x[7])
    x[7, :8] = 1.9  # alone far out: the channels of its own fold know no such row
    fitted, scores = cross_fit(data.schema, x, seed=0)
    assert fitted.names == ("inside", "row_distance", "chow_liu", "shuffled_row")
    inside = fitted.names.index("inside")
    assert scores[7, inside] < 0.5
    assert fitted.scores(x[7:8])[0, inside] > 0.9, "the one that is served has seen it"


@pytest.mark.parametrize(("rows", "calibrated", "tested"), [(100, 100, False), (130, 104, True)])
def test_small_table_is_calibrated_on_all_its_rows(
    rows: int, calibrated: int, tested: bool
) -> None:
    data = few(rows)
    victim = Victim(data.schema, ThreatModel(eps=0.1), None, bundles.asked_only(bundles.table()))
    material, source = head_material(victim, data, None, 0)
    assert material.drift is not None
    assert (len(material.drift.x), material.drift.tested) == (calibrated, tested)
    assert f"on all {calibrated} training" in source
    assert ("test rows" in source) is (not tested)


def test_large_table_is_calibrated_on_held_out_rows() -> None:
    data = few(600)
    victim = Victim(data.schema, ThreatModel(eps=0.1), None, bundles.asked_only(bundles.table()))
    assert head_material(victim, data, None, 0)[0].drift is None
