"""Pictures: coarser the longer ago, kept over restarts, and never a reason for a look to fail."""

from pathlib import Path

import pytest

from monitoring.watching.rings import SPANS, Point, Rings

NOW = 1_800_000_000.0


def filled(rings: Rings, seconds: float, step: float = 2.0, **values: float) -> Rings:
    for k in range(int(seconds / step)):
        rings.add(Point(NOW + step * k, step, 1, **values), ("energy",))  # type: ignore[arg-type]
    return rings


def test_each_span_holds_its_time_and_no_more() -> None:
    rings = filled(Rings(None), 3 * 3600)
    assert {span: len(rings.of(span)) for span in SPANS} == {"10m": 300, "6h": 360, "7d": 36}


def test_coarse_points_add_up_what_fine_ones_counted() -> None:
    rings = filled(Rings(None), 600, rows=3.0, answered=2.0, perturbed=1.0)
    for span in SPANS:
        points = rings.of(span)
        assert sum(p.rows for p in points) == 900
        assert sum(p.answered for p in points) == 600
        assert sum(p.perturbed for p in points) == 300


def test_the_median_is_weighted_and_the_slowest_stays() -> None:
    one = Point(NOW, 2.0, 1, answered=30.0, p50=0.001, p99=0.01, strongest=3.0)
    other = Point(NOW + 2, 2.0, 1, answered=10.0, p50=0.005, p99=0.004, strongest=1.0)
    joined = one.join(other)
    assert (joined.p50, joined.p99, joined.strongest) == (pytest.approx(0.002), 0.01, 3.0)


def test_a_new_version_is_never_joined_with_the_one_before() -> None:
    rings = Rings(None)
    rings.add(Point(NOW, 2.0, 1), ())
    rings.add(Point(NOW + 1, 2.0, 2), ())
    assert [p.version for p in rings.of("7d")] == [1, 2]


def test_what_was_drawn_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "rings" / "digits.json"
    rings = filled(Rings(path), 60, rows=1.0)
    rings.write(NOW)
    again = Rings.open(path)
    assert again.of("10m") == rings.of("10m")
    assert again.channels == ("energy",)
    path.write_text("{")
    assert Rings.open(path).of("10m") == []


def test_rates_are_of_the_last_minutes_and_unknown_before() -> None:
    assert Rings(None).rates(NOW).per_second is None
    rings = filled(Rings(None), 7200, rows=8.0, answered=10.0, failed=1.0, probing=2.0)
    rates = rings.rates(NOW + 7200)
    assert rates.per_second == pytest.approx(5.0)
    assert rates.rows == pytest.approx(1200, rel=0.02)
    assert rates.answered_hour == pytest.approx(18_000, rel=0.01)
    assert rates.probing == pytest.approx(300, rel=0.02)


def test_a_clock_that_was_set_back_leaves_no_points_in_the_future() -> None:
    rings = filled(Rings(None), 100)
    rings.add(Point(NOW + 10, 2.0, 1), ("energy",))
    assert max(p.at for p in rings.of("10m")) == NOW + 10
