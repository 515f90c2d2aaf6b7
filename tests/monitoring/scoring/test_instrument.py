"""Laws of the instrumented graph: one run, five outputs, conformal and free of the batch."""

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data import DataSet
from models.evaluation.subject import answer
from models.statistics.arrays import FloatArray
from models.statistics.intervals import false_positive_interval
from models.versions.runner import Answer, session
from models.versions.schema import OUTPUTS
from monitoring.scoring.drift_score import TABLE, conformal_table
from tests import bundles
from tests.conftest import Published


def p_values(held: FloatArray, fresh: FloatArray) -> FloatArray:
    """What the graph computes from the table."""
    edges, table = conformal_table(held)
    above = edges[None, :] >= np.asarray(fresh, dtype=np.float32)[:, None]
    result: FloatArray = table[above.sum(axis=1)]
    return result


def by_definition(held: FloatArray, fresh: FloatArray) -> FloatArray:
    """(1 + #{held >= s}) / (n + 1)."""
    result: FloatArray = (1 + (held[None] >= fresh[:, None]).sum(axis=1)) / (len(held) + 1)
    return result


values = st.floats(-100, 100, width=32)


@given(st.lists(values, min_size=1, max_size=80), st.lists(values, min_size=1, max_size=20))
def test_p_value_is_the_share_of_held_out_scores_at_least_as_strange(
    held: list[float], fresh: list[float]
) -> None:
    told = p_values(np.array(held), np.array(fresh))
    np.testing.assert_allclose(told, by_definition(np.array(held), np.array(fresh)))


@given(st.lists(values, min_size=2, max_size=80, unique=True))
def test_p_values_of_exchangeable_scores_are_exactly_uniform(pool: list[float]) -> None:
    array = np.array(pool)
    left_out = [p_values(np.delete(array, k), array[k : k + 1])[0] for k in range(len(array))]
    np.testing.assert_allclose(sorted(left_out), np.arange(1, len(array) + 1) / len(array))


@given(st.lists(st.integers(0, 3), min_size=2, max_size=40), st.floats(0.01, 0.99))
def test_p_values_stay_valid_with_ties(pool: list[int], alpha: float) -> None:
    array = np.array(pool, dtype=float)
    left_out = [p_values(np.delete(array, k), array[k : k + 1])[0] for k in range(len(array))]
    assert np.mean(np.array(left_out) <= alpha) <= alpha + 1e-9


@pytest.mark.parametrize("n", [TABLE, TABLE + 1, 1500, 5000])
def test_thinned_table_is_never_smaller_and_exact_in_the_tail(n: int) -> None:
    rng = np.random.default_rng(n)
    held = rng.normal(size=n).astype(np.float32)
    fresh = np.sort(np.concatenate([rng.normal(size=2000), held])).astype(np.float32)
    told, exact = p_values(held, fresh), by_definition(held, fresh)
    assert len(conformal_table(held)[0]) <= TABLE
    assert (told >= exact - 1e-12).all()
    tail = exact <= (TABLE // 2) / (n + 1)
    np.testing.assert_allclose(told[tail], exact[tail])
    assert (told - exact).max() < 0.01
    assert (np.diff(told) <= 0).all(), "stranger is never likelier"
    assert told.max() <= 1


@pytest.mark.parametrize("n", [361, 2000])
def test_realised_rate_lies_in_the_interval_over_many_splits(n: int) -> None:
    rng, fresh, splits, alpha = np.random.default_rng(7), 400, 60, 0.01
    flagged = [
        int((p_values(rng.normal(size=n), rng.normal(size=fresh)) <= alpha).sum())
        for _ in range(splits)
    ]
    low, high = false_positive_interval(alpha, n, fresh)
    assert all(low <= count <= high for count in flagged)
    exact = int(alpha * (n + 1)) / (n + 1)
    assert np.mean(flagged) / fresh == pytest.approx(exact, rel=0.3)


@pytest.fixture(scope="module")
def told(published: Published, digits: DataSet) -> Answer:
    """Answers for all test rows."""
    return answer(published.runner, digits.test.x)


def test_one_run_answers_all_outputs(told: Answer, published: Published, digits: DataSet) -> None:
    assert [o.name for o in published.runner._session.get_outputs()] == list(OUTPUTS)
    assert all(len(output) == len(digits.test) for output in told[: len(OUTPUTS)])
    assert (told.cells[:, -1] == told.probabilities.argmax(axis=1)).all()
    assert told.drift_p_value.min() > 0
    assert told.drift_p_value.max() <= 1


def test_row_alone_answers_as_in_a_batch(
    told: Answer, published: Published, digits: DataSet
) -> None:
    for k in range(0, 60, 3):
        alone = published.runner.run(digits.test.x[k : k + 1])
        for name, output, whole in zip(OUTPUTS, alone, told, strict=False):
            np.testing.assert_allclose(output[0], whole[k], atol=2e-5, err_msg=name)


def test_cells_are_within_their_channels(told: Answer, published: Published) -> None:
    channels = published.bundle.manifest.channels
    names = ["energy", "feature_distance", "mean", "gradient", "grain", "pixel_distance", "class"]
    assert [c.name for c in channels] == names
    for column, channel in zip(told.cells.T, channels, strict=True):
        weights = published.bundle.reference[f"{channel.name}/alpha"]
        assert len(channel.labels) == len(weights)
        assert column.min() >= 0
        assert column.max() < len(weights)


def test_reference_is_what_the_graph_counts_on_the_held_out_rows(
    published: Published, digits: DataSet
) -> None:
    held = answer(published.runner, digits.calibration.x)
    for column, channel in zip(held.cells.T, published.bundle.manifest.channels, strict=True):
        alpha = published.bundle.reference[f"{channel.name}/alpha"]
        counted = np.bincount(column, minlength=len(alpha))
        assert alpha.sum() == pytest.approx(len(column) + 1)
        extra = np.full(10, 0.1) if channel.kind == "class" else np.eye(len(alpha))[-1]
        np.testing.assert_allclose(counted, alpha - extra)


def test_p_values_of_the_calibration_rows_are_their_ranks(
    published: Published, digits: DataSet
) -> None:
    # The table is made by NumPy, the score by the graph: rounding may swap neighbours, no more.
    n = published.bundle.manifest.calibration.n
    held = np.sort(answer(published.runner, digits.calibration.x).drift_p_value * (n + 1))
    assert n == len(digits.calibration)
    np.testing.assert_allclose(held, np.arange(2, n + 2), atol=1.01)


def test_clean_rows_are_flagged_as_often_as_the_law_says(
    told: Answer, published: Published
) -> None:
    facts = published.bundle.manifest.calibration
    low, high = false_positive_interval(facts.alpha, facts.n, len(told.cells))
    for flags in (
        told.drift_p_value <= facts.alpha,
        told.perturbation_likelihood > facts.perturbation_threshold,
        told.corruption_likelihood > facts.corruption_threshold,
        told.suspicion > facts.suspicion_threshold,
    ):
        assert low <= flags.sum() <= high


def test_nothing_is_undefined_on_extreme_inputs(published: Published) -> None:
    schema = published.bundle.manifest.input
    rng, shape = np.random.default_rng(0), (30, *schema.shape)
    parts = [np.full((1, *schema.shape), v) for v in (schema.low, 8.0, schema.high, 1e-30)]
    parts += [
        rng.choice([schema.low, schema.high], shape),
        rng.uniform(schema.low, schema.high, shape),
    ]
    told = published.runner.run(np.concatenate(parts).astype(np.float32))
    for name, output in zip(OUTPUTS, told, strict=False):
        assert np.isfinite(output).all(), name
    for likelihood in told[1:4]:
        assert likelihood.min() >= 0
        assert likelihood.max() <= 1
    for column, channel in zip(told.cells.T, published.bundle.manifest.channels, strict=True):
        assert column.min() >= 0
        assert column.max() < len(channel.labels)
    assert (told.drift_p_value[4:] <= 0.01).all(), "noise is no digit"


# A wrapped table: no features, missing values, and probabilities that many rows share.


@pytest.fixture(scope="module")
def asked_session() -> ort.InferenceSession:
    """The instrumented graph of `bundles.asked_only`."""
    return session(bundles.prepared("asked").model.SerializeToString())


def ask(runner: ort.InferenceSession, x: FloatArray) -> Answer:
    """One run over rows of the table."""
    return Answer(*runner.run(list(OUTPUTS), {"row": x.astype(np.float32)}))


def test_graph_without_features_gets_what_there_is(asked_session: ort.InferenceSession) -> None:
    made, data = bundles.prepared("asked"), bundles.table()
    names = [c.name for c in made.channels]
    columns = [f"column:{column.name}" for column in data.schema.columns]
    assert names == [
        "energy",
        "uncertainty",
        "inside",
        "row_distance",
        "chow_liu",
        "shuffled_row",
        *columns,
        "class",
    ]
    assert [o.name for o in asked_session.get_outputs()] == list(OUTPUTS)
    told = ask(asked_session, data.test.x)
    assert (told.probabilities.argmax(axis=1) == data.test.y).mean() > 0.7
    for column, channel in zip(told.cells.T, made.channels, strict=True):
        weights = made.reference[f"{channel.name}/alpha"]
        assert len(weights) == len(channel.labels)
        assert weights.min() > 0
        assert column.min() >= 0
        assert column.max() < len(weights)


def test_ties_are_counted_alike_alone_and_in_a_batch(asked_session: ort.InferenceSession) -> None:
    data, made = bundles.table(), bundles.prepared("asked")
    x = data.calibration.x[len(data.calibration) // 2 :]  # what the stream is compared with
    told = ask(asked_session, x)
    alone = [ask(asked_session, x[k : k + 1]) for k in range(len(x))]
    np.testing.assert_array_equal(np.concatenate([a.cells for a in alone]), told.cells)
    assert len(np.unique(told.drift_p_value)) < len(x), "there are ties"
    np.testing.assert_array_equal(np.concatenate([a.drift_p_value for a in alone]), told[1])
    for column, channel in zip(told.cells.T, made.channels, strict=True):
        alpha = made.reference[f"{channel.name}/alpha"]
        prior = alpha - np.bincount(column, minlength=len(alpha))
        assert prior.min() >= 0
        assert prior.sum() == pytest.approx(1), "one open gap, and no request lost"


def test_scores_with_ties_flag_clean_rows_as_often_as_the_law_says(
    asked_session: ort.InferenceSession,
) -> None:
    facts = bundles.prepared("asked").calibration
    told = ask(asked_session, bundles.table().test.x)
    for flags in (
        told.drift_p_value <= facts.alpha,
        told.perturbation_likelihood > facts.perturbation_threshold,
        told.corruption_likelihood > facts.corruption_threshold,
    ):
        assert flags.sum() <= false_positive_interval(facts.alpha, facts.n, len(flags))[1]
    held = ask(asked_session, bundles.table().calibration.x[: facts.n])
    n = facts.n
    for alpha in (0.01, 0.05, 0.2, 0.5):
        assert (held.drift_p_value <= alpha).sum() <= alpha * (n + 1), "valid with ties"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30, 3.4e38, -1.0])
def test_no_score_is_undefined_on_absurd_values(
    value: float, asked_session: ort.InferenceSession
) -> None:
    x = np.repeat(bundles.table().test.x[:1], bundles.table().schema.size + 1, axis=0)
    np.fill_diagonal(x[:-1], value)
    x[-1] = value
    told = ask(asked_session, x)
    for name, output in zip(OUTPUTS, told, strict=False):
        assert np.isfinite(output).all(), name
    np.testing.assert_allclose(told.probabilities.sum(axis=1), 1, atol=1e-4)
