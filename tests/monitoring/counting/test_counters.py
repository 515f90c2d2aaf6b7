"""Laws of reading counters: what prometheus_client writes is read exactly, and resets are seen."""

from collections import Counter as Tally

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, generate_latest

from monitoring.counting.counters import (
    Cell,
    ForeignPageError,
    Page,
    fetch,
    increments,
    parse,
    read_page,
)

LABELS = ("model", "version", "channel", "cell")


def exposition(counts: dict[Cell, float]) -> str:
    """What a service with these counts answers."""
    registry = CollectorRegistry()
    cells = Counter("holdfast_cell_observations", "Rows per cell.", LABELS, registry=registry)
    other = Counter("holdfast_predictions", "Rows.", ("model", "class"), registry=registry)
    other.labels("digits", 'a "quoted} {class\\').inc(5)
    for (model, version, channel, cell), value in counts.items():
        cells.labels(model, version, channel, f"{cell:02d}").inc(value)
    return generate_latest(registry).decode()


cells = st.tuples(
    st.sampled_from(["digits", "model-2"]),
    st.integers(1, 20).map(str),
    st.sampled_from(["energy", "class", 'column:a "b} {c\\', "column:two\nlines, é"]),
    st.integers(0, 150),
)
counts = st.dictionaries(cells, st.integers(0, 10**12).map(float), max_size=20)


@given(counts)
def test_what_the_client_library_writes_is_read_exactly(expected: dict[Cell, float]) -> None:
    assert parse(exposition(expected)) == expected


@given(counts, counts)
def test_series_that_stand_twice_are_summed(one: dict[Cell, float], two: dict[Cell, float]) -> None:
    both = parse(exposition(one) + exposition(two))
    assert both == {k: one.get(k, 0) + two.get(k, 0) for k in one | two}


def test_other_metrics_comments_and_creation_times_are_no_cells() -> None:
    text = exposition({("digits", "1", "energy", 3): 7})
    assert "holdfast_cell_observations_created" in text
    assert "# HELP holdfast_cell_observations_total" in text
    assert "holdfast_predictions_total" in text
    assert parse(text) == {("digits", "1", "energy", 3): 7}
    assert parse("") == {}
    assert parse("x" + text.splitlines()[-1]) == {}


keys = st.sampled_from("abcde")
looks = st.lists(st.dictionaries(keys, st.integers(0, 5)), max_size=12)


@given(looks)
def test_increments_add_up_to_all_that_was_counted(added: list[dict[str, int]]) -> None:
    total: Tally[str] = Tally()
    summed: Tally[str] = Tally()
    before: dict[str, float] = {}
    for look in added:
        total.update(look)
        now = {k: float(v) for k, v in total.items()}
        for key, gained in increments(before, now).items():
            assert gained > 0
            summed[key] += int(gained)
        before = now
    assert +summed == +total


@given(looks, looks)
def test_after_a_restart_from_zero_nothing_is_negative_and_nothing_invented(
    first: list[dict[str, int]], second: list[dict[str, int]]
) -> None:
    before = {k: float(v) for k, v in sum(map(Tally, first), Tally()).items()}
    after = {k: float(v) for k, v in sum(map(Tally, second), Tally()).items()}
    for key, gained in increments(before, after).items():
        assert 0 < gained <= after[key]
    for key, value in after.items():
        if value < before.get(key, 0):
            assert increments(before, after)[key] == value


def test_a_page_that_is_no_services_is_refused_and_one_without_a_model_is_not() -> None:
    for text in ("", "<html>", "node_load1 0.5\n", "holdfast_drift_alarm 1\n"):
        with pytest.raises(ForeignPageError, match="no metrics of a service of Holdfast"):
            read_page(text)
    assert read_page("# TYPE holdfast_http_requests_total counter\n") == Page()


def test_service_that_is_not_there_is_an_os_error() -> None:
    with pytest.raises(OSError, match="refused"):
        fetch("http://127.0.0.1:9")
