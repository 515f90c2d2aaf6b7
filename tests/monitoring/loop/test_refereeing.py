"""The referee's step of the loop: which rows of a window it counts beside those of before."""

from pathlib import Path

import numpy as np
import pytest

from models.data import DataSet, Rows
from models.versions.facts import MatchFacts
from monitoring.loop import refereeing
from monitoring.loop.deciding import labels
from monitoring.loop.results import Refereed
from monitoring.making.matching import Match
from tests.conftest import Published

FAR = MatchFacts("", 0, 0.5, 0.5, "energy", "none matched")


def judge(published: Published, data: DataSet, folder: Path, rows: Rows, earlier: Rows) -> Refereed:
    """What the loop makes of a window and the labelled rows of before, all of many clients."""
    clients = np.array([f"c{k % 9}" for k in range(len(rows))])
    arrays = {
        "x": rows.x, "y": rows.y, "predicted": rows.y, "clients": clients,
        "at": np.arange(len(rows), dtype=np.float64), "earlier/x": earlier.x,
        "earlier/y": earlier.y, "earlier/at": np.zeros(len(earlier)),
    }  # fmt: skip
    np.savez(folder / "window.npz", allow_pickle=False, **arrays)
    return refereeing.judge_window(published.subject, data, folder, champion=published.bundle)


@pytest.mark.parametrize("light", [0.2, 0.1])
def test_honest_rows_of_a_dark_window_count_beside_bright_ones(
    light: float, published: Published, digits: DataSet, tmp_path: Path
) -> None:
    held = digits.calibration.joined(digits.test)
    dark = Rows((light * held.x).astype(held.x.dtype), held.y)
    said = judge(published, digits, tmp_path, dark, digits.train.take(np.arange(600)))
    assert said.window is not None
    assert said.window.different > 0.97 * len(held), said.checks[0].detail
    with np.load(tmp_path / "referee.npz") as archive:
        assert said.kept == said.window.kept == archive["kept"].sum()
        assert archive["earlier"].mean() > 0.95
    lost = len(held) - said.window.different
    assert f"{lost} of {len(held)} rows count as near-copies" in said.checks[0].detail


@pytest.mark.parametrize(
    ("match", "verdict"), [(Match(FAR), "fail"), (Match(FAR, lambda x, rng: x), "unknown")]
)
def test_only_a_move_that_a_change_explains_excuses_contradictions(
    match: Match,
    verdict: str,
    published: Published,
    digits: DataSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Flips of 15 %: who sends odd inputs beside them buys no second look."""
    monkeypatch.setattr(labels, "match_window", lambda *_, **__: match)
    held, rng = digits.calibration.joined(digits.test), np.random.default_rng(7)
    flips = rng.random(len(held)) < 0.15
    y = np.where(flips, (held.y + rng.integers(1, 10, len(held))) % 10, held.y)
    said = judge(published, digits, tmp_path, Rows(held.x, y), held.take(np.arange(0)))
    assert said.checks[0].verdict == verdict, said.checks[0].detail
