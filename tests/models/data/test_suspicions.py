"""Laws of suspicious columns: named where they are, and never in tables that are known well."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import data
from models.data.labels import judge_column, note_suspicions
from models.data.raw import RawColumn
from models.statistics.arrays import IntArray
from tests import samples

ROWS = 300
RNG = np.random.default_rng(7)
Y: IntArray = RNG.integers(0, 3, ROWS)
NOISE = RNG.normal(size=ROWS)


def column(values: object, name: str = "c", texts: tuple[str, ...] | None = None) -> RawColumn:
    return RawColumn(name, np.asarray(values, dtype=np.float32), texts)


@pytest.mark.parametrize(
    ("suspect", "words"),
    [
        (column(np.arange(ROWS)), r"'c' counts the rows \(0 to 299\)"),
        (column(RNG.permutation(ROWS) + 1), r"'c' counts the rows \(1 to 300\)"),
        (column(np.arange(ROWS) * 7), "'c' is a whole number that rises or falls from row to row"),
        (
            column(RNG.permutation(10**6)[:ROWS]),
            "'c' is a whole number that is another one",
        ),
        (column(Y), "'c' alone tells the label for 100 % of the rows"),
        (column(Y + NOISE / 100), "'c' alone tells the label for 100 % of the rows"),
        (column((Y + 1) % 3, texts=("a", "b", "d")), "'c' alone tells the label for 100 %"),
        (
            column(RNG.permutation(15)[Y * 5 + np.arange(ROWS) % 5]),
            "alone tells the label for 100",
        ),
        (column(np.where(Y == 1, np.nan, Y)), "'c' alone tells the label for 100 %"),
    ],
)
def test_a_suspicious_column_is_named_with_what_it_tells(suspect: RawColumn, words: str) -> None:
    usual = column(NOISE, "usual")
    notes = note_suspicions([usual, suspect], Y)
    assert len(notes) == 1
    assert re.search(words, notes[0])


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "wine"])
def test_bundled_sets_raise_no_suspicion(name: str) -> None:
    assert data.load(name).notes == ()


def test_iris_and_penguins_raise_no_suspicion() -> None:
    from sklearn.datasets import load_iris

    iris = load_iris()
    columns = [column(iris.data[:, place], str(place)) for place in range(4)]
    assert note_suspicions(columns, iris.target) == []
    path = str(samples.case("tables/penguins.csv"))
    assert not [n for n in data.load(data.Source(path, label="species")).notes if "--ignore" in n]


def test_a_rare_class_is_not_given_away_by_its_rarity() -> None:
    y = (np.arange(2000) % 250 == 0).astype(np.int64)
    assert note_suspicions([column(RNG.normal(size=2000))], y) == []
    leak = column(np.where(y == 1, 5.0, RNG.normal(size=2000)))
    assert "'c' alone tells the label for 99.9 %" in note_suspicions([leak], y)[0]


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_noise_tells_no_more_than_the_commonest_label(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, 200)
    values = rng.choice([np.nan, 1.0, 2.0, 3.5], 200).astype(np.float32)
    assert judge_column(values, y) <= 1 / classes + 5 * np.sqrt(0.25 / 200)


def test_notes_reach_the_data_set(tmp_path: Path) -> None:
    columns = samples.people(120) | {"id": list(range(120))}
    loaded = data.load(str(samples.write_csv(tmp_path / "a.csv", columns)))
    assert [note for note in loaded.notes if note.startswith("column 'id' counts the rows")]
