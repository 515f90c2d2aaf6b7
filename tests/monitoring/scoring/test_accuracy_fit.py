"""Laws of the facts: made for images and tables, with and without a net, and the same again."""

import numpy as np
import pytest

from monitoring.evidence.accuracy_estimate import Facts, estimate, evidence
from monitoring.evidence.label_shift import CONFUSION
from monitoring.scoring.accuracy_fit import _asking, accuracy_facts
from tests import bundles


@pytest.mark.parametrize("name", ["small", "asked"])
def test_facts_of_any_model_estimate_its_accuracy_on_unseen_rows(name: str) -> None:
    data, made = bundles.data_of(name), bundles.prepared(name)
    held = data.calibration
    told = accuracy_facts(made.model, data.schema, held.x, held.y, seed=1)
    facts, answer = Facts.of(told), _asking(made.model, data.schema)(data.test.x)
    assert facts is not None
    guess = estimate(facts, evidence(answer), answer.drift_p_value)
    truth = float((answer.probabilities.argmax(axis=1) == data.test.y).mean())
    assert guess is not None
    assert guess.low <= truth <= guess.high
    assert guess.value == pytest.approx(truth, abs=0.05)
    assert told[CONFUSION].shape == (len(data.classes), len(data.classes))
    assert told[CONFUSION].sum() == len(held)
    assert all(np.isfinite(array).all() for array in told.values())
    again = accuracy_facts(made.model, data.schema, held.x, held.y, seed=1)
    for key, array in told.items():
        np.testing.assert_array_equal(array, again[key])


def test_a_handful_of_rows_is_enough_to_make_facts() -> None:
    data, made = bundles.data_of("asked"), bundles.prepared("asked")
    told = accuracy_facts(made.model, data.schema, data.test.x[:10], data.test.y[:10])
    assert Facts.of(told) is not None
    assert all(np.isfinite(array).all() for array in told.values())
