"""A batch from file to output: the service's own scores, every row once, faults by name."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest

from models.base.errors import DataError
from models.versions.registry import Registry
from models.versions.runner import Runner
from monitoring.counting.metrics import Metrics, ModelMetrics
from service.batch import work as work_module
from service.batch.run import ChangedError
from service.batch.work import Work
from service.decoding.codec import read_instances
from service.pipeline import Scored, drift_scores
from tests import bundles
from tests.killing import in_child
from tests.service.batch import files

DROPPED = ("id", "truth")


def as_request(table: pa.Table) -> bytes:
    """The rows as a client posts them."""
    return json.dumps(table.drop_columns(list(DROPPED)).to_pylist()).encode()


def test_scores_and_counters_are_those_of_the_service(registry: Path, tmp_path: Path) -> None:
    table = files.rows(200)
    report = files.score(
        registry, files.write(tmp_path, table), tmp_path / "out.parquet", keep=("id",)
    )
    bundle = Registry(registry).open(files.MODEL, "champion")
    runner = Runner(bundle)
    x = read_instances(as_request(table), bundle.manifest.input, 1024, "instances")
    answer = runner.run(x)
    out = pq.read_table(tmp_path / "out.parquet")
    assert out["id"].to_pylist() == table["id"].to_pylist()
    assert out["row"].to_pylist() == list(range(1, 201))
    predicted = answer.probabilities.argmax(axis=1)
    assert out["label"].to_pylist() == [bundle.manifest.classes[k] for k in predicted]
    for name, values in (
        ("confidence", answer.probabilities.max(axis=1)),
        ("drift_p_value", answer.drift_p_value),
        ("perturbation_likelihood", answer.perturbation_likelihood),
    ):
        np.testing.assert_allclose(out[name].to_numpy(), values, atol=1e-6)
    metrics = Metrics()
    counted = ModelMetrics(metrics, bundle.manifest)
    from monitoring.counting.metrics import Flags

    flags = Flags.of(answer, bundle.manifest)
    counted.count(answer, predicted, flags)
    metrics.tally.settle()
    assert report.flagged["drift"] == flags.drift.sum() == pc.sum(out["drift_flagged"]).as_py()
    cells = {
        sample.labels["cell"]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "holdfast_cell_observations_total" and sample.labels["channel"] == "class"
    }
    assert [cells[f"{place:02d}"] for place in range(3)] == list(report.classes.values())
    scored = Scored("", bundle.manifest, answer, predicted, flags, None, runner.out_of_range(x))
    assert [each["flagged"] for each in drift_scores(scored)] == out["drift_flagged"].to_pylist()


def test_csv_and_parquet_give_the_same_scores(registry: Path, tmp_path: Path) -> None:
    table = files.rows(150)
    files.write(tmp_path, table)
    arrow_csv.write_csv(table, tmp_path / "rows.csv")
    told = [
        pq.read_table(_scored(registry, tmp_path / name, tmp_path)).drop_columns(["file"])
        for name in ("rows.parquet", "rows.csv")
    ]
    assert told[0].equals(told[1])


def test_images_of_an_npz_have_certificates_and_sets(registry: Path, tmp_path: Path) -> None:
    test, out = bundles.digits().test, tmp_path / "out.parquet"
    np.savez_compressed(tmp_path / "digits.npz", images=test.x[:90, 0], numbers=test.y[:90])
    report = files.score(
        registry, tmp_path / "digits.npz", out, model="digits", label="numbers", probabilities=True
    )
    bundle = Registry(registry).open("digits", "champion")
    answer = Runner(bundle).run(test.x[:90])
    told = pq.read_table(out)
    np.testing.assert_allclose(told["probabilities"].to_pylist(), answer.probabilities, atol=1e-6)
    assert told["certified"].to_pylist() == answer.certified.tolist()
    for label, members in zip(told["label"].to_pylist(), told["set"].to_pylist(), strict=True):
        assert label in members
    assert report.accuracy is not None
    assert report.accuracy.value == np.mean(answer.probabilities.argmax(axis=1) == test.y[:90])


def _scored(registry: Path, data: Path, folder: Path, **named: Any) -> Path:
    out = folder / f"{data.name}.out.parquet"
    files.score(registry, data, out, **named)
    return out


def test_a_row_that_does_not_fit_has_a_fault_and_the_others_have_scores(
    registry: Path, tmp_path: Path
) -> None:
    lines = [",".join(files.rows().column_names)]
    for place, row in enumerate(files.rows(6).to_pylist()):
        cells = ["" if cell is None else str(cell) for cell in row.values()]
        if place == 1:
            cells[1], cells[2] = "twelve", ""
        lines.append(",".join(cells[:-1] if place == 3 else cells))
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    report = files.score(registry, tmp_path / "rows.csv", tmp_path / "out.parquet")
    assert (report.rows, report.scored) == (6, 4)
    out = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["row"] for row in out] == [1, 2, 3, 4, 5, 6]
    assert [row["label"] is None for row in out] == [False, True, False, True, False, False]
    assert "n0: expected a number, got 'twelve'" in out[1]["fault"]
    assert out[3]["fault"] == "13 cells, expected 14 as in the header"
    assert {each.rows for each in report.faults} == {1}
    assert "2 of 6 rows have no scores" in report.shortfall


def test_a_broken_row_group_is_named_and_the_rest_is_scored(registry: Path, tmp_path: Path) -> None:
    data = files.write(tmp_path, files.rows(300))
    files.damage(data, 2)
    report = files.score(registry, data, tmp_path / "out.parquet")
    (failure,) = report.failures
    assert "row group 2 (rows 121 to 180)" in failure.piece
    rows = pq.read_table(tmp_path / "out.parquet")["row"].to_pylist()
    assert rows == [*range(1, 121), *range(181, 301)]
    assert "row group 2" in report.shortfall


def test_a_folder_with_a_file_that_is_none_names_it(registry: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    files.write(folder, files.rows(60), "a.parquet")
    (folder / "b.parquet").write_bytes(b"PAR1 no PAR1")
    report = files.score(registry, folder, tmp_path / "out.parquet")
    assert [Path(each.piece).name for each in report.failures] == ["b.parquet"]
    assert report.scored == 60


def test_columns_that_are_not_there_are_all_named(registry: Path, tmp_path: Path) -> None:
    data = files.write(tmp_path, files.rows(60).drop_columns(["n0", "colour"]))
    with pytest.raises(DataError, match=r"no column 'n0', 'colour'"):
        files.score(registry, data, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
    assert not Work(tmp_path / "out.parquet").folder.exists()


def test_killed_anywhere_and_run_again_the_bytes_are_the_same(
    registry: Path, tmp_path: Path
) -> None:
    data = files.write(tmp_path, files.rows(180))
    whole, out = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    files.score(registry, data, whole)
    line, killed = 3, 0

    def go_on() -> None:
        if Work(out).folder.exists() or not out.exists():
            files.score(registry, data, out)

    while in_child(go_on, die_at_line=line, within="batch/work.py"):
        line, killed = line + 11, killed + 1
    assert killed > 5
    assert out.read_bytes() == whole.read_bytes()
    assert not Work(out).folder.exists()


def test_what_is_done_is_not_done_again(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = files.write(tmp_path, files.rows(180)), tmp_path / "out.parquet"
    made = []
    real = Work.make_part

    def full(self: Work, key: str, *rest: Any) -> Any:
        made.append(key)
        if len(made) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, key, *rest)

    monkeypatch.setattr(Work, "make_part", full)
    with pytest.raises(DataError, match="No space left on device; what is scored so far stays"):
        files.score(registry, data, out)
    report = files.score(registry, data, out)
    assert (report.resumed, made[3:]) == (2, ["00000-000002"])


def test_a_disk_that_is_full_loses_nothing(registry: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a disk of its own needs the rights to mount one")
    try:
        data, out = files.write(tmp_path, files.rows(1200), group=300), disk / "out.parquet"
        with pytest.raises(DataError, match="No space left on device"):
            files.score(registry, data, out)
        grow = ["mount", "-o", "remount,size=8m", str(disk)]
        subprocess.run(grow, check=True)
        report = files.score(registry, data, out)
        assert report.resumed > 0
        files.score(registry, data, tmp_path / "whole.parquet")
        assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_what_changed_in_between_is_refused_by_name(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = files.write(tmp_path, files.rows(120)), tmp_path / "out.parquet"

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Work, "assemble", stop)
        with pytest.raises(KeyboardInterrupt):
            files.score(registry, data, out)
    with pytest.raises(ChangedError, match="other options: keep"):
        files.score(registry, data, out, keep=("id",))
    other = data.read_bytes()
    files.write(tmp_path, files.rows(120, seed=1))
    with pytest.raises(ChangedError, match=r"rows\.parquet has changed.*--anew begins anew"):
        files.score(registry, data, out)
    data.write_bytes(other)
    assert files.score(registry, data, out).resumed == 2


def test_an_output_that_is_there_is_not_replaced_unasked(registry: Path, tmp_path: Path) -> None:
    data, out = files.write(tmp_path, files.rows(60)), tmp_path / "out.parquet"
    out.write_bytes(b"mine")
    with pytest.raises(DataError, match="is there already: --overwrite"):
        files.score(registry, data, out)
    assert out.read_bytes() == b"mine"
    files.score(registry, data, out, overwrite=True)
    assert pq.read_metadata(out).num_rows == 60


def test_what_is_scored_is_never_replaced(registry: Path, tmp_path: Path) -> None:
    data = files.write(tmp_path, files.rows(60))
    before = data.read_bytes()
    with pytest.raises(DataError, match="is what shall be scored"):
        files.score(registry, data, data, overwrite=True)
    assert data.read_bytes() == before


def test_no_rows_are_no_success(registry: Path, tmp_path: Path) -> None:
    data = files.write(tmp_path, files.rows(3).slice(0, 0))
    with pytest.raises(DataError, match="there are no rows"):
        files.score(registry, data, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.slow
def test_memory_goes_with_a_row_and_not_with_the_rows(registry: Path, tmp_path: Path) -> None:
    peaks = []
    for count in (20_000, 400_000):
        data = files.write(tmp_path, files.rows(count), f"{count}.parquet", group=count)
        command = [
            sys.executable, "-m", "service", "score", str(data), "--model", files.MODEL,
            "--out", str(tmp_path / f"{count}.out.parquet"), "--json",
        ]  # fmt: skip
        environment = os.environ | {"HOLDFAST_STATE": str(registry.parent)}
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        peaks.append(json.loads(done.stdout)["data"]["peak_memory_bytes"])
    assert peaks[1] < peaks[0] + (96 << 20), f"twenty times the rows: {peaks} bytes"


def test_a_second_process_is_refused(registry: Path, tmp_path: Path) -> None:
    data, out = files.write(tmp_path, files.rows(60)), tmp_path / "out.parquet"
    with Work(out).hold(), pytest.raises(DataError, match="another process works there"):
        files.score(registry, data, out)


def test_a_part_that_was_changed_is_made_again(registry: Path, tmp_path: Path) -> None:
    work = Work(tmp_path / "out.parquet")
    work.folder.mkdir()
    job, bundle = files.job_of(registry, files.write(tmp_path, files.rows(60)))
    from service.batch.run import pieces_of
    from service.batch.scoring import Scorer

    scorer = Scorer(bundle, job.options)
    pieces = pieces_of(job, scorer)
    key, _, piece = next(pieces)
    facts = work.make_part(key, piece, scorer, "rows.parquet")
    assert work.facts(key) == facts
    content = bytearray(work.path(key).read_bytes())
    content[40] ^= 1
    work.path(key).write_bytes(content)
    assert work.facts(key) is None
    assert job.format == work_module.FORMAT


def test_accuracy_is_that_of_the_labels(registry: Path, tmp_path: Path) -> None:
    table, out = files.rows(300), tmp_path / "out.parquet"
    report = files.score(registry, files.write(tmp_path, table), out, label="truth")
    told = pq.read_table(out)["label"].to_pylist()
    right = np.mean([a == b for a, b in zip(told, table["truth"].to_pylist(), strict=True)])
    assert report.accuracy is not None
    assert report.accuracy.value == pytest.approx(right)
    assert report.accuracy.rows == 300
    assert report.accuracy.low < right < report.accuracy.high
