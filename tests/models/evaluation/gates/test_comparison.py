"""What is flagged is judged on the mixture of rows that the thresholds were calibrated on."""

import numpy as np
import pytest

from models.data import Rows
from models.evaluation.gates.comparison import mix_as_calibrated


def rows(n: int, value: float) -> Rows:
    return Rows(np.full((n, 2), value, dtype=np.float32), np.zeros(n, dtype=np.int64))


@pytest.mark.parametrize(
    ("live", "held", "of_data", "of_window"),
    [
        (0, 0, 359, 0),  # a first version
        (0, 500, 359, 0),  # an old window that was not calibrated on
        (690, 690, 359, 688),
        (690, 345, 180, 345),  # fewer are there than their share
        (90, 90, 359, 90),
        (690, 0, 359, 0),  # nothing could show the mixture
    ],
)
def test_rows_stand_in_the_shares_of_the_calibration(
    live: int, held: int, of_data: int, of_window: int
) -> None:
    mixed = mix_as_calibrated(rows(359, 0.0), rows(held, 1.0), 360 + live, 360)
    assert (mixed.x[:, 0] == 0).sum() == of_data
    assert (mixed.x[:, 0] == 1).sum() == of_window
    if of_window:
        assert of_window / of_data == pytest.approx(live / 360, rel=0.01)
