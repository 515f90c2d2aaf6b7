"""What the gates are measured on: digits, MNIST as a spot check, and tables with different columns.

Where a data set is not on this machine the reason is told and it is left out.
"""

import csv
import importlib.util
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from models import data
from models.data import DataSet, Rows, Source
from models.training.loop import Recipe
from tests import applicants

MNIST = (Path(__file__).parents[2] / "../shared/data/mnist").resolve()
MNIST_ROWS, MNIST_HELD = 2000, 700
DIGITS_RECIPE, TABLE_RECIPE = Recipe(epochs=12), Recipe(eps=0.05, beta=2.0, epochs=30)
MNIST_RECIPE = Recipe(eps=0.2, epochs=2, attack_steps=3, batch_size=128)
SURVEYS = ("anes96", "fair")  # of statsmodels
SURVEY_ROWS = 1000


def load_mnist() -> DataSet | None:
    """A part of MNIST, shuffled; None and a line where it is not beside the checkout."""
    if not MNIST.is_dir():
        print("mnist: left out, there is none beside the checkout (../shared/data/mnist)")
        return None
    source, rng = data.load(str(MNIST)), np.random.default_rng(0)

    def some(rows: Rows, most: int) -> Rows:
        return rows.take(rng.permutation(len(rows))[:most])

    return DataSet(
        source.name, source.schema, source.classes, some(source.train, MNIST_ROWS),
        some(source.calibration, MNIST_HELD), some(source.test, MNIST_HELD), source=source.source,
    )  # fmt: skip


def load_tables() -> list[DataSet]:
    """scikit-learn's tables, one with categories, and surveys where statsmodels is installed."""
    tables = [data.load("breast_cancer"), data.load("wine")]
    with TemporaryDirectory() as folder:
        made = applicants.write(Path(folder) / "applicants.csv")
        tables.append(data.load(Source(str(made), label="label")))
    return tables + [t for name in SURVEYS if (t := _survey(name)) is not None]


def _survey(name: str) -> DataSet | None:
    """A survey of American voters, or of marriages: whether one had an affair."""
    found = importlib.util.find_spec("statsmodels")
    if found is None or found.origin is None:
        print(f"{name}: left out, it comes with statsmodels, which is not installed")
        return None
    path = Path(found.origin).parent / "datasets" / name / f"{name}.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        cells = list(csv.reader(stream, delimiter="\t" if name == "anes96" else ","))
    head, *rows = [[cell.strip(" '") for cell in line] for line in cells if line]
    for row in rows:
        row[-1] = "no" if float(row[-1]) == 0 else "yes"
    picked = np.random.default_rng(0).permutation(len(rows))[:SURVEY_ROWS]
    with TemporaryDirectory() as folder:
        part = Path(folder) / f"{name}.csv"
        with part.open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows([head, *(rows[k] for k in picked)])
        return data.load(Source(str(part), label=head[-1]))
