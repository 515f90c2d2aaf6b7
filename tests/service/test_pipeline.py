"""Laws of what is recorded of an answer."""

import numpy as np
from scipy.stats import entropy

from models.data import DataSet
from monitoring.counting.metrics import Flags
from service.pipeline import RowRecords, Scored
from tests.conftest import Published


def test_records_hold_what_evidence_from_labels_needs(
    published: Published, digits: DataSet
) -> None:
    x = digits.test.x[:20]
    answer, manifest = published.runner.run(x), published.bundle.manifest
    predicted = answer.probabilities.argmax(axis=1)
    flags = Flags.of(answer, manifest, None)
    records = RowRecords(Scored("a", manifest, answer, predicted, flags, None), x, "token shop")
    rows = list(records)
    assert {row.client for row in rows} == {"token shop"}
    assert len(rows) == len(records) == 20
    probabilities = answer.probabilities.astype(np.float64)
    np.testing.assert_allclose([row.confidence for row in rows], probabilities.max(axis=1))
    np.testing.assert_allclose(
        [row.entropy for row in rows], entropy(probabilities, axis=1), atol=1e-5
    )
    assert [row.predicted for row in rows] == predicted.tolist()
    assert [row.row for row in rows] == list(range(20))
