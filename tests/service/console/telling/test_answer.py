"""What is said of one answer: nothing that is not known is a yes."""

import msgspec
import pytest

from models.versions.schema import Calibration
from service.console.telling.answer import tell_likeness

CALIBRATION = Calibration(
    n=500, alpha=0.01, perturbation_threshold=0.9, corruption_threshold=0.9, source="held-out rows",
    temperature=1.0, benign_alpha=0.05, benign_kinds=3,
)  # fmt: skip


def calibrated_on(rows: int) -> Calibration:
    return msgspec.structs.replace(CALIBRATION, drift_rows=rows)


@pytest.mark.parametrize(
    ("drift", "rows", "word"),
    [
        ({"p_value": 0.4, "flagged": False}, 500, "Yes: "),
        ({"p_value": 0.4, "flagged": False, "out_of_range": False}, 99, "Yes: "),
        ({"p_value": 0.002, "flagged": True}, 500, "No: "),
        ({"p_value": 0.4, "flagged": False, "out_of_range": True}, 500, "No: a number lies "),
        ({"p_value": 0.4, "flagged": False, "out_of_range": True}, 50, "No: a number lies "),
        ({"p_value": 0.4, "flagged": False, "out_of_range": False}, 98, "Cannot be told: "),
        ({"p_value": 0.02, "flagged": False}, 50, "Cannot be told: calibrated on 50 rows"),
    ],
)
def test_a_row_is_like_training_only_where_it_could_have_been_flagged(
    drift: dict[str, object], rows: int, word: str
) -> None:
    told = tell_likeness(drift, calibrated_on(rows))
    assert told.startswith(word)
    assert f"p = {drift['p_value']:.3f}" in told
