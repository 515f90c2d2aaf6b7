"""The verdict on a batch: drift is found, order plays no part, too little is not known."""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from models.versions.registry import Registry
from service.batch.verdict import judge
from tests.service.batch import files


def test_rows_like_the_reference_are_no_drift_in_any_order(registry: Path, tmp_path: Path) -> None:
    table = files.rows(600)
    mixed = files.score(registry, files.write(tmp_path, table), tmp_path / "mixed.parquet")
    ordered = table.sort_by([("truth", "ascending"), ("n0", "ascending")])
    data = files.write(tmp_path, ordered, "sorted.parquet")
    in_order = files.score(registry, data, tmp_path / "ordered.parquet")
    assert mixed.drift.verdict == "no drift"
    assert in_order.drift == mixed.drift


def test_rows_that_moved_are_drift_and_it_says_what(registry: Path, tmp_path: Path) -> None:
    table = files.rows(600)
    place = table.column_names.index("n0")
    table = table.set_column(place, "n0", pc.multiply(table["n0"], 3.0))
    report = files.score(registry, files.write(tmp_path, table), tmp_path / "out.parquet")
    assert report.drift.verdict == "drift"
    assert report.drift.channel
    assert report.drift.histogram
    assert sum(each.after for each in report.drift.histogram) == pytest.approx(1)


@pytest.mark.parametrize("count", [0, 3])
def test_too_few_rows_are_not_known(registry: Path, tmp_path: Path, count: int) -> None:
    bundle = Registry(registry).open(files.MODEL, "champion")
    if not count:
        from monitoring.counting.cells import RowCounts

        counts = np.zeros(RowCounts(bundle.manifest).size, dtype=np.int64)
        verdict = judge(bundle, counts, 1e6)
        assert (verdict.verdict, verdict.why) == ("not known", "no row has scores")
        return
    data = files.write(tmp_path, files.rows(count))
    report = files.score(registry, data, tmp_path / "out.parquet")
    assert report.drift.verdict == "not known"
    assert "too few" in report.drift.why
