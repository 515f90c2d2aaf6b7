"""The data sets that scikit-learn bundles: digits, and two public tables."""

from collections.abc import Callable

import numpy as np

from models.data import tables
from models.data.build import build
from models.data.contents import content_hashes, unseen
from models.data.raw import Raw, RawPart, spans
from models.data.records import DataSet, Rows, Source
from models.data.split import split
from models.versions.schema import DTYPES, InputSchema


def load_digits() -> DataSet:
    """scikit-learn's 1797 handwritten digits, 8x8, raw values 0 to 16."""
    from sklearn import datasets

    source = datasets.load_digits()
    schema = InputSchema(
        name="input", shape=(1, 8, 8), dtype="float32", low=0.0, high=16.0, kind="image"
    )
    x = source.images[:, None].astype(DTYPES[schema.dtype])
    parts = split(Rows(x, source.target.astype(np.int64)))
    classes = tuple(str(name) for name in source.target_names)
    fresh = unseen(content_hashes(parts[0].x), content_hashes(parts[2].x))
    origin = Source("digits", "bundled")
    return DataSet("digits", schema, classes, *parts, source=origin, unseen_test=fresh)


def load_table(name: str) -> DataSet:
    """scikit-learn's `breast_cancer` (569 rows, 30 columns) or `wine` (178 rows, 13 columns)."""
    from sklearn import datasets

    source = getattr(datasets, f"load_{name}")()
    where = spans([(name, len(source.target))])
    columns = tuple(
        tables.numbers(str(column), source.data[:, index], where)
        for index, column in enumerate(source.feature_names)
    )
    part = RawPart(source.target.astype(np.int64), where, columns=columns)
    names = tuple(str(each) for each in source.target_names)
    return build(Raw(name, part, names=names), Source(name, "bundled"), name)


BUNDLED: dict[str, Callable[[], DataSet]] = {
    "digits": load_digits,
    "breast_cancer": lambda: load_table("breast_cancer"),
    "wine": lambda: load_table("wine"),
}
