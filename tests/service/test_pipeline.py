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
    request = records.request()
    assert (request.client, request.row) == ("token shop", 0)
    assert request.rows == len(records) == 20
    assert bytes(request.x) == x.tobytes()
    probabilities = answer.probabilities.astype(np.float64)
    np.testing.assert_allclose(request.scores["confidence"], probabilities.max(axis=1))
    np.testing.assert_allclose(request.scores["entropy"], entropy(probabilities, axis=1), atol=1e-5)
    assert request.scores["predicted"].tolist() == predicted.tolist()
