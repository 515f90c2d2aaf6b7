"""Laws of the heads' material: nothing leaks, attacks stay in their ball, large sets are capped."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from models.attacks.catalogue import learnt_attacks
from models.data import DataSet, Rows, Source
from models.data.window import Window
from models.nets import export, factories
from models.versions.judging import ThreatModel
from models.versions.runner import session
from models.versions.schema import InputArray
from monitoring.scoring import material
from monitoring.scoring.material import Victim, head_material, logits_of, tell_few
from monitoring.scoring.perturbation.attacks import SIZES
from monitoring.scoring.perturbation.benign import Benign
from monitoring.scoring.perturbation.head import threshold
from monitoring.scoring.perturbation.negatives import kinds_of
from tests import bundles

THREAT = ThreatModel(eps=0.1, columns={"n0": 0.0})


def keys(x: InputArray) -> set[bytes]:
    """The inputs as bytes."""
    return {row.tobytes() for row in x}


@pytest.fixture(scope="module")
def asked() -> Victim:
    """A graph of the table that can only be asked."""
    data = bundles.table()
    return Victim(data.schema, THREAT, None, bundles.asked_only(data))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """An untrained net for the table."""
    data = bundles.table()
    torch.manual_seed(0)
    net = factories.build(factories.spec_for(data.schema, 3))
    factories.prepare(net, torch.from_numpy(data.schema.to_unit(data.train.x)))
    return net.eval()


@pytest.fixture(scope="module")
def white(net: nn.Module) -> Victim:
    """The same with gradients."""
    data = bundles.table()
    return Victim(data.schema, THREAT, net, export.to_onnx(net, data.schema))


@pytest.mark.parametrize("name", ["asked", "white"])
def test_attacked_rows_stay_in_the_largest_ball_and_what_cannot_change_stays(
    name: str, asked: Victim, white: Victim
) -> None:
    victim, data = {"asked": asked, "white": white}[name], bundles.table()
    rows = data.test.take(np.arange(40))
    x = victim.attack(rows)
    shares = [
        a.learnt.share
        for a in learnt_attacks(black_box=False, images=False)
        if a.learnt and not a.nearest
    ]
    copies = 1 if victim.net is None else sum(shares)
    assert 0.5 * len(SIZES) * copies * 40 <= len(x) <= len(SIZES) * copies * 40
    unit, clean = data.schema.to_unit(x), data.schema.to_unit(rows.x)
    gaps = np.isnan(unit)[:, None] != np.isnan(clean)[None]
    moved = np.where(gaps, np.inf, np.nan_to_num(np.abs(unit[:, None] - clean[None])))
    nearest = moved.max(axis=2).min(axis=1)
    assert nearest.max() <= SIZES[-1] * THREAT.eps * 1.001
    held = moved[:, :, [0, 10, 11]].max(axis=2) < 1e-5  # n0 and the categories are as they were
    assert np.where(held, moved.max(axis=2), np.inf).min(axis=1).max() <= nearest.max()
    assert nearest.min() > 0, "a row that was left as it is is no attacked row"
    np.testing.assert_array_equal(victim.attack(rows), x)


def test_asked_graph_answers_unit_rows_as_the_graph_does(asked: Victim) -> None:
    data = bundles.table()
    x = data.test.x[:30]
    (expected,) = session(asked.plain.SerializeToString()).run(["logits"], {"row": x})
    told = logits_of(asked.plain, data.schema)(torch.from_numpy(data.schema.to_unit(x)))
    np.testing.assert_allclose(told.numpy(), expected, atol=1e-3)


def test_references_fit_and_held_rows_are_apart(asked: Victim) -> None:
    data = bundles.table()
    made, source = head_material(asked, data, None, seed=0)
    assert keys(made.references).isdisjoint(keys(made.fit_clean))
    assert keys(made.references) | keys(made.fit_clean) <= keys(data.train.x)
    assert keys(made.held_clean) == keys(made.reference) == keys(data.calibration.x)
    held = keys(data.train.x) | keys(data.test.x)
    assert keys(made.held_clean).isdisjoint(held)
    assert source == f"{len(data.calibration)} rows of table that were not trained on"
    for corrupted in (made.fit_corrupted, made.held_corrupted):
        data.schema.check(corrupted)
    again, _ = head_material(asked, data, None, seed=0)
    for field in dataclasses.fields(made):
        one, other = getattr(again, field.name), getattr(made, field.name)
        if one is not None or other is not None:
            np.testing.assert_array_equal(one, other)


def test_live_rows_join_and_the_stream_is_compared_with_them(asked: Victim) -> None:
    data = bundles.table()
    moved = data.test.x + 0.3 * data.schema.span * (np.arange(12) < 10)
    live = Window.of(Rows(moved.astype(np.float32), data.test.y), data)
    made, source = head_material(asked, data, live, seed=0)
    assert keys(made.reference) == keys(live.calibration.x)
    assert keys(live.calibration.x) < keys(made.held_clean)
    assert keys(live.test.x).isdisjoint(keys(made.held_clean) | keys(made.fit_clean))
    assert f"{len(live.calibration)} of the labelled traffic (which the stream" in source


def large(rows: int) -> DataSet:
    """The table many times over: as many rows as asked for."""
    data = bundles.table()

    def grown(part: Rows, count: int) -> Rows:
        return part.take(np.arange(count) % len(part))

    return dataclasses.replace(
        data, train=grown(data.train, rows), calibration=grown(data.calibration, rows)
    )


def test_large_sets_are_capped(monkeypatch: pytest.MonkeyPatch, asked: Victim) -> None:
    for name, value in (("FIT_ROWS", 150), ("HELD_ROWS", 400), ("KIND_ROWS", 50),
                        ("REFERENCE_ROWS", 200), ("QUERIED_ROWS", 20)):  # fmt: skip
        monkeypatch.setattr(material, name, value)
    made, source = head_material(asked, large(3000), None, seed=0)
    assert len(made.references) == 200
    assert len(made.fit_clean) == 150
    assert len(made.fit_corrupted) == 20 * 150
    assert len(made.held_clean) == len(made.reference) == 400
    kinds = len(kinds_of(bundles.table().schema))
    assert len(made.held_corrupted) == len(made.held_kinds) == kinds * 50
    assert max(len(made.fit_adversarial), len(made.held_adversarial)) <= 20 * len(SIZES)
    assert source.startswith("400 rows")


def test_large_net_is_attacked_on_fewer_rows(
    monkeypatch: pytest.MonkeyPatch, white: Victim, net: nn.Module
) -> None:
    rows = bundles.table().train
    all_rows = len(white.attack(rows.take(np.arange(60))))
    monkeypatch.setattr(material, "FEWEST_ROWS", 6)
    monkeypatch.setattr(material, "ATTACK_FLOPS", 1.0)
    assert len(white.attack(rows.take(np.arange(60)))) <= all_rows / 3


def test_where_nothing_can_be_changed_the_rows_stand_for_themselves() -> None:
    data = bundles.table()
    fixed = ThreatModel(eps=0.1, columns={f"n{k}": 0.0 for k in range(10)})
    victim = Victim(data.schema, fixed, None, bundles.asked_only(data))
    rows = data.test.take(np.arange(5))
    x = victim.attack(rows)
    assert len(x) == 5 * len(SIZES)
    np.testing.assert_allclose(x, np.tile(rows.x, (len(SIZES), 1)), rtol=1e-5)


def test_own_benign_rows_join_both_parts_as_a_kind_of_their_own(asked: Victim) -> None:
    data = bundles.table()
    own = Benign(data.test.x[:120] + np.float32(0), Source("odd.csv"))
    own.x[:, 1] += 3 * data.schema.span[1]
    made, _ = head_material(asked, data, None, seed=0, benign=own)
    fit, held = own.halves()
    assert keys(fit) <= keys(made.fit_corrupted)
    assert keys(fit).isdisjoint(keys(made.held_corrupted))
    assert made.held_kinds is not None
    last = made.held_kinds == made.held_kinds.max()
    assert keys(made.held_corrupted[last]) == keys(held)
    assert len(np.unique(made.held_kinds)) == len(kinds_of(data.schema)) + 1


@pytest.mark.parametrize("held", [10, 98, 99, 360])
def test_the_card_says_where_nothing_can_be_flagged(held: int) -> None:
    nothing = threshold(np.linspace(0, 0.9, held), 0.01) == 1.0
    assert bool(tell_few(held)) == nothing
