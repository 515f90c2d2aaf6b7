"""A made-up table of applicants as it stands in a CSV file, and models fitted on it as others do.

The class follows from every column, so a model that is given one of them in another spelling than
it was fitted on is wrong where it need not be.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROWS = 700
NUMBERS = ("age", "spend")
TEXTS = ("city", "zip", "member", "sex")
NAMES = ("age", "city", "zip", "spend", "member", "sex")
ZIPS = ("00501", "02138", "10001")

Spell = Mapping[str, Callable[[str], str]]
Texts = npt.NDArray[np.object_]


@cache
def columns() -> dict[str, list[str]]:
    """The cells of every column, as texts of the file; `label` is the class."""
    rng = np.random.default_rng(5)
    age, spend = rng.normal(40, 12, ROWS).round(1), rng.gamma(2, 50, ROWS).round(2)
    city, codes = rng.choice(["Bonn", "Köln", "New York"], ROWS), rng.choice(ZIPS, ROWS)
    member, sex = rng.choice(["True", "False"], ROWS), rng.choice(["M", "F"], ROWS)
    z = (age - 40) / 12 + (spend - 100) / 70 + 1.6 * (city == "Köln") + 1.8 * (codes == "00501")
    z += 1.6 * (sex == "M") - 1.6 * (member == "True") + rng.normal(0, 0.3, ROWS)
    table = {"age": age, "city": city, "zip": codes, "spend": spend, "member": member, "sex": sex}
    texts = {name: [str(cell) for cell in cells] for name, cells in table.items()}
    return texts | {"label": ["yes" if value > 1 else "no" for value in z]}


def write(path: Path, names: Sequence[str] = NAMES) -> Path:
    """The file, with the columns in that order and the label last."""
    table = columns()
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([*names, "label"])
        writer.writerows(zip(*(table[name] for name in (*names, "label")), strict=True))
    return path


def labels() -> Texts:
    """The classes `(N,)`."""
    return np.array(columns()["label"], dtype=object)


def cells(names: Sequence[str], spell: Spell) -> Texts:
    """Cells `(N, D)`: numbers where the file has such, texts as `spell` has them."""
    table = columns()
    made = [
        [float(cell) if name in NUMBERS else spell.get(name, str)(cell) for cell in table[name]]
        for name in names
    ]
    return np.array(made, dtype=object).T


def pipeline(spell: Spell, *, strict: bool = False) -> onnx.ModelProto:
    """Columns by name, numbers scaled, texts one-hot (`strict`: unknown ones are refused)."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    encoder = OneHotEncoder() if strict else OneHotEncoder(handle_unknown="ignore")
    numbers = [NAMES.index(name) for name in NUMBERS]
    texts = [NAMES.index(name) for name in TEXTS]
    encode = ColumnTransformer([("n", StandardScaler(), numbers), ("t", encoder, texts)])
    fitted = make_pipeline(encode, LogisticRegression(max_iter=500))
    fitted.fit(cells(NAMES, spell), labels())
    kinds: list[tuple[str, Any]] = [
        (name, (FloatTensorType if name in NUMBERS else StringTensorType)([None, 1]))
        for name in NAMES
    ]
    model: onnx.ModelProto = to_onnx(fitted, initial_types=kinds)
    return model


def codes(names: Sequence[str], places: Mapping[str, Sequence[str]]) -> npt.NDArray[np.float32]:
    """Numbers `(N, D)`: of a text its place in `places`, by alphabet where that says nothing."""
    made = []
    for name in names:
        column = columns()[name]
        order = list(places.get(name, sorted(set(column))))
        made.append([float(c) if name in NUMBERS else float(order.index(c)) for c in column])
    return np.array(made, dtype=np.float32).T


def dummies(*, drop_first: bool, truth_stays: bool) -> npt.NDArray[np.float32]:
    """Numbers `(N, D)` as `pandas.get_dummies` makes them of the file."""
    rest = [name for name in NAMES if name in NUMBERS or (truth_stays and name == "member")]
    made = [codes(rest, {})]
    for name in (name for name in NAMES if name not in rest):
        column = np.array(columns()[name])
        kinds = sorted(set(column))[int(drop_first) :]
        made.append(np.stack([column == kind for kind in kinds], axis=1).astype(np.float32))
    return np.concatenate(made, axis=1)
