"""Laws of whole sources: repeats are nature or copies, groups stay together, windows follow."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models import data
from models.base.errors import DataError
from models.data import PARTS, DataSet, Rows, Source
from models.data.window import Window
from tests import samples
from tests.cases import TABLES, needs_cases


def survey(rows: int, seed: int = 0) -> dict[str, Any]:
    """Three answers of 1 to 5 and a label that follows from them."""
    x = np.random.default_rng(seed).integers(1, 6, (rows, 3))
    columns = {name: x[:, place].tolist() for place, name in enumerate(("a", "b", "c"))}
    return columns | {"label": np.where(x.sum(axis=1) > 9, "good", "bad").tolist()}


def visits(rows: int = 400, patients: int = 40) -> dict[str, Any]:
    """Rows of patients, several of each."""
    rng = np.random.default_rng(1)
    patient = rng.integers(0, patients, rows)
    return {
        "value": rng.normal(size=rows).round(6).tolist(),
        "patient": [f"p{number:07}" for number in patient],
        "label": rng.choice(["ill", "well"], rows).tolist(),
    }


def parts_of(made: DataSet) -> tuple[Rows, Rows, Rows]:
    return made.train, made.calibration, made.test


def test_a_held_out_row_has_an_equal_in_training_as_often_as_a_fresh_one(tmp_path: Path) -> None:
    made = data.load(str(samples.write_csv(tmp_path / "a.csv", survey(2000))))
    assert made.unseen_test is not None
    assert made.unseen_test.mean() < 0.02
    assert any("% of the rows have an equal one" in note for note in made.notes)
    shares = [np.unique(part.x, axis=0).shape[0] for part in parts_of(made)]
    assert min(shares) > 90, "every part has nearly all of the 125 different rows"


def test_a_test_part_of_the_same_survey_costs_training_no_row(tmp_path: Path) -> None:
    samples.write_csv(tmp_path / "train.csv", survey(1000))
    samples.write_csv(tmp_path / "test.csv", survey(400, seed=1))
    made = data.load(str(tmp_path / "train.csv"))
    assert len(made.train) + len(made.calibration) == 1000
    assert not any("left out of training" in note for note in made.notes)


@needs_cases
def test_a_table_of_few_rows_with_both_labels_is_an_ordinary_table() -> None:
    made = data.load(str(TABLES / "coarse.csv"))
    assert [np.bincount(part.y).min() > 0 for part in parts_of(made)] == [True] * 3
    assert made.unseen_test is not None
    assert not made.unseen_test.any()


@needs_cases
def test_the_calibration_of_the_survey_follows_the_law_of_its_rows() -> None:
    made = data.load(str(TABLES / "survey.csv"))
    whole = np.concatenate([part.x for part in parts_of(made)])
    kinds, places = np.unique(whole, axis=0, return_inverse=True)
    expected = np.bincount(places, minlength=len(kinds)) * len(made.calibration) / len(whole)
    seen = np.zeros(len(kinds))
    for row in made.calibration.x:
        seen[(kinds == row).all(axis=1)] += 1
    spread = ((seen - expected) ** 2 / (expected * 0.8)).sum() / len(kinds)
    assert 0.6 < spread < 1.4, "as random rows are, not all or nothing of each kind"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_groups_stand_in_one_part_and_are_no_feature(tmp_path: Path, suffix: str) -> None:
    columns = visits()
    path = tmp_path / f"a.{suffix}"
    (samples.write_csv if suffix == "csv" else samples.write_parquet)(path, columns)
    made = data.load(Source(str(path), group="patient"))
    assert [column.name for column in made.schema.columns] == ["value"]
    owner = {np.float32(v): p for v, p in zip(columns["value"], columns["patient"], strict=True)}
    sides = [{owner[row[0]] for row in part.x} for part in parts_of(made)]
    assert len(set.union(*sides)) == sum(map(len, sides))
    assert made.test_groups is not None
    assert len(made.test_groups) == len(made.test)
    assert len(set(made.test_groups.tolist())) == len(sides[2])
    assert made.fingerprint != data.load(Source(str(path), ignore=("patient",))).fingerprint
    assert any("40 groups" in note for note in made.notes)


def test_groups_of_the_test_part_are_not_trained_on(tmp_path: Path) -> None:
    columns = visits()
    first = {name: values[:300] for name, values in columns.items()}
    rest = {name: values[300:] for name, values in columns.items()}
    rest["patient"] = ["p0000003" if i % 2 else f"q{i // 10}" for i in range(100)]
    samples.write_csv(tmp_path / "train.csv", first)
    samples.write_csv(tmp_path / "test.csv", rest)
    made = data.load(Source(str(tmp_path / "train.csv"), group="patient"))
    count = first["patient"].count("p0000003")
    assert count > 0
    assert len(made.train) + len(made.calibration) == 300 - count
    assert made.test_groups is not None
    assert np.bincount(made.test_groups).max() == 50


def test_what_groups_cannot_be_is_named(tmp_path: Path) -> None:
    path = str(samples.write_csv(tmp_path / "a.csv", visits()))
    with pytest.raises(DataError, match=r"no column 'nobody', which --group names"):
        data.load(Source(path, group="nobody"))
    columns = visits()
    columns["patient"][7] = None
    path = str(samples.write_csv(tmp_path / "b.csv", columns))
    with pytest.raises(DataError, match=r"row 8: the group is missing"):
        data.load(Source(path, group="patient"))
    path = str(samples.write_csv(tmp_path / "c.csv", visits(60, patients=4)))
    with pytest.raises(DataError, match=r"at least 5 groups"):
        data.load(Source(path, group="patient"))


def test_pictures_have_groups_beside_them(tmp_path: Path) -> None:
    x, y = samples.pictures(60)
    groups = np.arange(60) // 3
    np.savez(tmp_path / "a.npz", x=x, y=y, patients=groups)
    images = [{"bytes": samples.encoded(each), "path": None} for each in x]
    pq.write_table(
        pa.table({"image": images, "label": y, "patients": groups}), tmp_path / "a.parquet"
    )
    for name in ("a.npz", "a.parquet"):
        made = data.load(Source(str(tmp_path / name), group="patients"))
        owner = {each.tobytes(): group for each, group in zip(x, groups, strict=True)}
        sides = [{owner[row.tobytes()] for row in part.x} for part in parts_of(made)]
        assert len(set.union(*sides)) == sum(map(len, sides)) == 20
        assert made.test_groups is not None


def test_arrays_that_were_saved_without_names_are_x_and_y(tmp_path: Path) -> None:
    x, y = samples.pictures(40)
    np.savez(tmp_path / "a.npz", x, y)
    np.savez(tmp_path / "b.npz", x=x, y=np.eye(2, dtype=np.float32)[y])
    np.savez(tmp_path / "c.npz", x=x, y=y)
    prints = {data.load(str(tmp_path / f"{name}.npz")).fingerprint for name in "abc"}
    assert len(prints) == 1
    np.savez(tmp_path / "d.npz", x, y, x, y)
    with pytest.raises(DataError, match="4 arrays without names; two are taken as x and y"):
        data.load(str(tmp_path / "d.npz"))


def test_a_window_keeps_repeats_where_they_are_natural(tmp_path: Path) -> None:
    made = data.load(str(samples.write_csv(tmp_path / "a.csv", survey(1000))))
    columns = survey(400, seed=2)
    x = np.array([columns[name] for name in "abc"], np.float32).T
    sent = Rows(x, np.array([made.classes.index(text) for text in columns["label"]]))
    window = Window.of(sent, made)
    parts = (window.train, window.calibration, window.test)
    assert sum(map(len, parts)) == 400
    np.testing.assert_allclose(np.array(list(map(len, parts))) / 400, [0.5, 0.25, 0.25], atol=0.08)
    longer = Window.of(sent.joined(sent.take(np.arange(50))), made)
    for part in ("train", "calibration", "test"):
        before, after = (
            sorted(map(bytes, np.c_[rows.x, rows.y].astype(np.float32)))
            for rows in (getattr(window, part), getattr(longer, part))
        )
        assert all(after.count(row) >= before.count(row) for row in set(before))


def test_a_window_of_copies_of_a_table_with_repeats_is_no_new_evidence(tmp_path: Path) -> None:
    """Half of the rows repeat, and the whole table comes back: these rows were trained on."""
    rng = np.random.default_rng(0)
    value = np.where(rng.random(600) < 0.5, 1.0, rng.normal(size=600))
    columns = {"v": value.tolist(), "w": (value * 2).tolist(), "label": [0, 1] * 300}
    made = data.load(str(samples.write_csv(tmp_path / "a.csv", columns)))
    whole = made.train
    for part in PARTS[1:]:
        whole = whole.joined(getattr(made, part))
    window = Window.of(whole, made)
    assert sum(map(len, (window.train, window.calibration, window.test))) == 0
