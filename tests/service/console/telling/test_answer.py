"""What is said of one answer: nothing that is not known is a yes."""

import msgspec
import pytest

from models.versions.promises import CertificateFacts, SetFacts
from models.versions.schema import Calibration, Column, InputSchema, Manifest
from service.console.telling.answer import split_kinds, tell_certificate, tell_likeness, tell_sets
from service.console.telling.blocks import Text

CALIBRATION = Calibration(
    n=500, alpha=0.01, perturbation_threshold=0.9, corruption_threshold=0.9, source="held-out rows",
    temperature=1.0, benign_alpha=0.05, benign_kinds=3,
)  # fmt: skip

PROVES = Manifest(
    schema_version=3, model="loans", version=1, created_at="", classes=("no", "yes"), channels=(),
    input=InputSchema("row", (2,), "float32", 0.0, 1.0, "tabular",
                      columns=(Column("age"), Column("debt"))),
    calibration=CALIBRATION, training=None, evaluation=None, parent=None, event=None, files={},
    sizes={}, certificate=CertificateFacts(0.2, (0.1, 0.2), {"age": 0.0}),
)  # fmt: skip
USUAL = {"p_value": 0.4, "flagged": False}


def proven(certified: bool, eps: float, **drift: object) -> list[Text]:
    told = tell_certificate({"certified": certified, "eps": eps}, USUAL | drift, PROVES)
    return [each for each in told if isinstance(each, Text)]


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


@pytest.mark.parametrize(
    ("attacked", "corrupted"), [(1.0, 1.0), (0.0, 0.0), (3.0, 0.2), (40.0, 40.0), (0.1, 900.0)]
)
def test_the_bar_shows_what_both_likelihoods_say_together(
    attacked: float, corrupted: float
) -> None:
    likelihood = 2 * attacked / (1 + corrupted + 2 * attacked)
    corruption = 2 * corrupted / (1 + 2 * corrupted + attacked)
    whole = 1 + attacked + corrupted
    shown = [share for _, share, _ in split_kinds(likelihood, corruption)]
    wanted = [1 / whole, corrupted / whole, attacked / whole]
    assert shown == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("attack", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("corruption", [0.0, 0.5, 1.0])
def test_the_bar_is_a_whole_whatever_the_likelihoods(attack: float, corruption: float) -> None:
    shown = [share for _, share, _ in split_kinds(attack, corruption)]
    assert sum(shown) == pytest.approx(1.0)
    assert min(shown) >= 0


def test_a_certificate_of_a_table_names_its_box() -> None:
    first, second = proven(True, 0.2)
    assert first.text.startswith(
        "Certified: this answer stays, however each number is changed by up to 0.2 of its training"
    )
    assert "Held: age, categories and missing values." in first.text
    assert first.tone == "good"
    assert "not that it is right" in second.text


def test_what_is_proven_short_of_the_promised_size_is_told_and_is_not_certified() -> None:
    first, _ = proven(False, 0.1)
    assert first.text.startswith(
        "Not certified at 0.2, but proven: this answer stays, however each number is changed by up "
        "to 0.1 of its"
    )
    assert first.tone == "plain"
    (nothing,) = proven(False, 0.0)
    assert nothing.text.startswith("Not certified: of changes of this input nothing is proven")


@pytest.mark.parametrize("drift", [{"flagged": True}, {"out_of_range": True}])
def test_a_certificate_of_a_strange_row_is_no_good_news(drift: dict[str, object]) -> None:
    first, second = proven(True, 0.2, **drift)
    assert first.tone == "plain"
    assert "as here, it says nothing" in second.text


@pytest.mark.parametrize(
    ("row", "begin"),
    [
        ({"set": ["2"]}, "Promised classes: 2. They hold the true class for at least 99% of rows"),
        ({"set": ["2", "8", "3"]}, "Promised classes: 2, 8 or 3. They"),
        ({"set": []}, "Promised classes: none of them. They"),
        (
            {"set": ["2"], "certificate": {"set": ["2", "8"]}},
            "Promised classes: 2; under any change within 0.2: 2 or 8. They",
        ),
    ],
)
def test_a_prediction_set_is_told_with_its_promise(row: dict[str, object], begin: str) -> None:
    manifest = msgspec.structs.replace(PROVES, sets=SetFacts(0.99, 500, 0.1, 0.05))
    (told,) = tell_sets(row, manifest)
    assert isinstance(told, Text)
    assert told.text.startswith(begin)
    assert tell_sets(row, PROVES) == [], "nothing was promised"
    assert tell_sets({"set": None}, manifest) == []
