"""Laws of the parts of the perturbation head: filters, fit, negatives, attacks, own examples."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from models import corruptions
from models.attacks.threat import geometry_of
from models.base.errors import DataError
from models.data import Source, load_digits
from models.statistics.intervals import auroc
from models.versions.judging import ThreatModel
from models.versions.runner import session
from models.versions.schema import InputSchema
from monitoring.scoring.graph import GraphBuilder
from monitoring.scoring.perturbation import attacks
from monitoring.scoring.perturbation import negatives as hn
from monitoring.scoring.perturbation.benign import again, load_benign
from monitoring.scoring.perturbation.filters import Filters
from monitoring.scoring.perturbation.fit import fit_with_filters
from tests import bundles
from tests.monitoring.battery import emit_grown

DIGITS = load_digits().schema


def asked(filters: Filters, x: np.ndarray) -> np.ndarray:
    """What the nodes give."""
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *x.shape[1:]])
    model: onnx.ModelProto = helper.make_model(
        helper.make_graph([], "filters", [info], []),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    graph = GraphBuilder(model)
    graph.output("pooled", emit_grown(graph, "x", filters), "batch", None)
    (told,) = session(graph.build().SerializeToString()).run(["pooled"], {"x": x})
    return np.asarray(told)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 9), (1, 28, 28)])
def test_filters_in_numpy_equal_the_graph(shape: tuple[int, ...]) -> None:
    rng, fixed = np.random.default_rng(0), Filters.fixed(shape[0])
    kernels = rng.normal(size=(4, shape[0], 3, 3)).astype(np.float32)
    filters = Filters(
        np.concatenate([fixed.kernels, kernels]),
        np.append(fixed.bias, rng.normal(size=4).astype(np.float32)),
    )
    x = rng.random((3, *shape), dtype=np.float32)
    np.testing.assert_allclose(asked(filters, x), filters.pool(x), atol=1e-4)


def test_head_learns_from_pixels_alone_and_follows_its_seed() -> None:
    rng, n = np.random.default_rng(0), 600
    kind = np.arange(n) % 3
    x = rng.random((n, 1, 8, 8), dtype=np.float32) * 0.1
    x[kind == 1] += 0.3  # brighter
    x[kind == 2] += 0.15 * (np.indices((8, 8)).sum(0) % 2).astype(np.float32)  # a chequerboard
    nothing = np.zeros((n, 1), dtype=np.float32)
    before = torch.random.get_rng_state()
    filters, head = fit_with_filters(nothing, kind, x, seed=3)
    assert torch.equal(before, torch.random.get_rng_state()), "nobody else's draws change"
    assert filters is not None
    evidence = np.concatenate([nothing, filters.pool(x)], axis=1)
    p = head.likelihoods(evidence)[0]
    assert auroc(p[kind != 2], p[kind == 2]) > 0.99
    again_filters, again_head = fit_with_filters(nothing, kind, x, seed=3)
    assert again_filters is not None
    np.testing.assert_array_equal(again_filters.kernels, filters.kernels)
    np.testing.assert_array_equal(again_head.w1, head.w1)


def test_negatives_cover_every_kind_and_pass_the_schema() -> None:
    x, rng = load_digits().test.x[:30], np.random.default_rng(1)
    kinds = hn.kinds_of(DIGITS)
    assert len(kinds) == len(corruptions.suite(DIGITS)) + len(corruptions.sensor.KINDS)
    rows, places, severities = hn.by_kind(kinds, x, rng)
    assert len(rows) == len(places) == len(severities) == 30 * len(kinds)
    DIGITS.check(rows)
    DIGITS.check(hn.random_changes(kinds, x, rng))
    fewer = hn.kinds_of(DIGITS, without=["fog", "gaussian_noise"])
    assert set(kinds) - set(fewer) == {
        "holdfast/gaussian_noise", "imagenet-c/gaussian_noise", "imagenet-c/fog", "mnist-c/fog",
    }  # fmt: skip
    assert set(hn.kinds_of(bundles.table().schema)) >= {"noise", "rounding", "gain", "offset"}


def test_grid_is_found_left_and_restored() -> None:
    data, rng = load_digits(), np.random.default_rng(0)
    x = data.test.x[:200]
    step = hn.grid_step(DIGITS.to_unit(x))
    assert step == pytest.approx(1 / 16)
    moved = hn.off_the_grid(DIGITS, x, step, rng)
    DIGITS.check(moved)
    assert np.abs(DIGITS.to_unit(moved) - DIGITS.to_unit(x)).max() <= step / 2 + 1e-6
    assert (moved != x).any(axis=(1, 2, 3)).all()
    noisy = DIGITS.from_unit(rng.random(x.shape))
    mended = hn.round_to_grid(DIGITS, noisy, step, rng)
    whole = (mended == np.rint(mended)).all(axis=(1, 2, 3))
    same = (mended == noisy).all(axis=(1, 2, 3))
    assert 0.1 < whole.mean() < 0.3
    assert 0.5 < same.mean() < 0.7
    assert hn.grid_step(rng.random((50, 1, 8, 8)).astype(np.float32)) == pytest.approx(1 / 255)


def test_attacks_stay_in_range_follow_the_generator_and_leave_families_out() -> None:
    data = bundles.digits()
    x = torch.from_numpy(DIGITS.to_unit(data.test.x[:24]))
    y = torch.from_numpy(data.test.y[:24])
    weight = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))

    def logits_of(rows: torch.Tensor) -> torch.Tensor:
        return rows.flatten(1) @ weight

    def made(without: tuple[str, ...] = ()) -> torch.Tensor:
        return attacks.attack_families(
            logits_of, x, y, lambda share: geometry_of(ThreatModel(eps=0.1), DIGITS, 0.1 * share),
            generator=torch.Generator().manual_seed(2), without=without,
        )  # fmt: skip

    one = made()
    assert torch.equal(one, made())
    assert one.min() >= 0
    assert one.max() <= 1
    nearest = (one[:, None] - x[None]).flatten(2).abs().amax(2).amin(1)
    assert nearest.min() > 0
    only_fgsm = made(tuple(f for f in attacks.FAMILIES if f != "fgsm"))
    assert 0 < len(only_fgsm) < len(one)
    moved = (only_fgsm[:, None] - x[None]).flatten(2).abs().amax(2).amin(1)
    assert moved.max() <= 0.2 + 1e-6


def written(path: Path, rows: int, side: int = 8) -> Path:
    """An npz of grey images of bytes with labels that mean nothing."""
    x = np.random.default_rng(0).integers(0, 255, (rows, 1, side, side)).astype(np.uint8)
    np.savez(path, x=x, y=np.zeros(rows, dtype=np.int64))
    return path


def test_own_benign_examples_are_read_halved_and_read_again(tmp_path: Path) -> None:
    schema = InputSchema("input", (1, 8, 8), "uint8", 0.0, 255.0, "image")
    found = load_benign(Source(str(written(tmp_path / "fog.npz", 60))), schema)
    assert found.x.shape == (60, 1, 8, 8)
    fit, held = found.halves()
    assert len(fit) + len(held) == 60
    assert min(len(fit), len(held)) > 10
    repeated = again(found.facts, schema)
    assert repeated is not None
    np.testing.assert_array_equal(repeated.x, found.x)
    assert again(None, schema) is None
    written(tmp_path / "fog.npz", 61)
    with pytest.raises(DataError, match="changed since the version was made"):
        again(found.facts, schema)


def test_unfit_benign_examples_are_refused_in_one_sentence(tmp_path: Path) -> None:
    schema = InputSchema("input", (1, 8, 8), "uint8", 0.0, 255.0, "image")
    with pytest.raises(DataError, match="no such file"):
        load_benign(Source(str(tmp_path / "nothing.npz")), schema)
    with pytest.raises(DataError, match="give a path"):
        load_benign(Source("digits"), schema)
    few = written(tmp_path / "few.npz", 5)
    with pytest.raises(DataError, match="5 rows; at least 20"):
        load_benign(Source(str(few)), schema)
    large = written(tmp_path / "large.npz", 30, side=9)
    with pytest.raises(DataError, match=r"images \[1, 9, 9\] of uint8; the model takes"):
        load_benign(Source(str(large)), schema)
    with pytest.raises(DataError, match="holds images, but the model takes tabular"):
        load_benign(Source(str(large)), bundles.table().schema)


def test_benign_rows_of_a_table_take_its_columns_by_name(tmp_path: Path) -> None:
    data = bundles.table()
    names = [column.name for column in data.schema.columns]
    lines = [",".join([*reversed(names), "label"])]
    for row in data.test.x[:40]:
        cells = []
        for value, column in zip(row, data.schema.columns, strict=True):
            known = column.kind == "categorical" and not np.isnan(value)
            text = column.categories[int(value)] if known else f"{value:.9g}"
            cells.append("" if np.isnan(value) else text)
        lines.append(",".join([*reversed(cells), "a"]))
    path = tmp_path / "odd.csv"
    path.write_text("\n".join(lines) + "\n")
    found = load_benign(Source(str(path), label="label"), data.schema)
    np.testing.assert_allclose(found.x, data.test.x[:40], rtol=1e-6)
