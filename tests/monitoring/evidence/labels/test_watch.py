"""Laws of weighing labels from the records: each once, in any order, over restarts."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from monitoring.evidence.labels.biases import ONLY_FLAGGED, THUMBS_UP
from monitoring.evidence.labels.poststratified import Poststratified
from monitoring.evidence.labels.watch import LabelState, LabelWatch
from monitoring.records.store import Key, Record, RecordStore
from tests.conftest import Published

NOW = 10_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    made = RecordStore(f"sqlite:///{tmp_path}/records.sqlite")
    yield made
    made.close()


def ask(store: RecordStore, confidence: np.ndarray, tag: str, at: float = 100.0) -> None:
    """Requests that are answered with class 0 and this confidence."""
    store.add(
        [
            Record(f"{tag}{k}", 0, at + k / 1000, "digits", 1, b"", 0, 0.5, 0.1, float(p), 0.1)
            for k, p in enumerate(confidence)
        ]
    )


def label(store: RecordStore, right: dict[int, bool], tag: str) -> None:
    """Labels of some of them, by their number."""
    keys = {k: Key(f"{tag}{k}", 0) for k in right}
    rows = store.find(keys.values())
    store.add_feedback([(key, rows[key], int(not right[k])) for k, key in keys.items()])


def watch_of(published: Published, store: RecordStore, floor: float = 0.96) -> LabelWatch:
    watch = LabelWatch(published.bundle, store, c=1e6)
    watch.floor = floor  # whatever the quickly trained version promises
    return watch


def test_each_label_is_weighed_once_also_over_a_restart(
    published: Published, store: RecordStore
) -> None:
    rng = np.random.default_rng(0)
    ask(store, rng.random(300), "r")
    watch, state = watch_of(published, store), LabelState()
    order = rng.permutation(300).tolist()
    right = (rng.random(300) < 0.9).tolist()
    for start in range(0, 300, 75):
        part = {k: right[k] for k in order[start : start + 75]}
        label(store, part, "r")
        label(store, {k: right[k] for k in order[: start + 10]}, "r")  # sent again
        state = watch.look(state, NOW)
        stored = msgspec.json.decode(msgspec.json.encode(state), type=LabelState)
        assert stored == state
        watch, state = watch_of(published, store), stored
    assert state.harm.labels == 300
    assert state.thumbs_up.labels == 300
    assert watch.look(state, NOW) == state


def test_harm_is_seen_with_its_time_and_its_numbers(
    published: Published, store: RecordStore
) -> None:
    ask(store, np.full(200, 0.99), "good")
    ask(store, np.full(100, 0.99), "bad", at=5000.0)
    label(store, dict.fromkeys(range(200), True), "good")
    label(store, {k: k % 2 == 0 for k in range(100)}, "bad")
    state = watch_of(published, store).look(LabelState(), NOW)
    assert state.harm.alarm is not None
    assert state.harm.alarm.since == pytest.approx(5000, abs=1)
    assert state.crossed_at == NOW
    assert state.bias(published.bundle.manifest.classes) == ""


def test_labels_of_an_earlier_reign_do_not_count(published: Published, store: RecordStore) -> None:
    ask(store, np.full(100, 0.9), "before")
    ask(store, np.full(50, 0.9), "after", at=5000.0)
    for tag, count in (("before", 100), ("after", 50)):
        label(store, dict.fromkeys(range(count), True), tag)
    assert watch_of(published, store).look(LabelState(), NOW, since=4000.0).harm.labels == 50


def test_a_choice_of_hard_requests_is_seen_and_waits_for_labels_under_way(
    published: Published, store: RecordStore
) -> None:
    rng = np.random.default_rng(1)
    confidence = rng.random(1500)
    ask(store, confidence, "r")
    chosen = np.flatnonzero((confidence < 0.25) & (np.arange(1500) < 1210)).tolist()
    label(store, dict.fromkeys(chosen, True), "r")
    watch = watch_of(published, store)
    state = watch.look(LabelState(), NOW)
    assert state.labelling.intervals in (0, 11, 12)
    old = NOW + 10 * 86_400_000_000  # far older than any label takes
    state = watch.look(state, old)
    assert state.request == 1200, "the interval of the last label is still open"
    words = "the 25 % of requests with the lowest confidence get labels more often (odds x5)"
    assert words in state.bias(published.bundle.manifest.classes)


def test_where_every_request_has_its_label_a_better_model_is_no_praise(
    published: Published, store: RecordStore
) -> None:
    ask(store, np.full(2000, 0.7), "r")
    label(store, dict.fromkeys(range(2000), True), "r")
    old = NOW + 10 * 86_400_000_000  # all labels are there
    state = watch_of(published, store).look(LabelState(), old)
    assert state.thumbs_up.seen
    assert state.sound
    assert state.bias(published.bundle.manifest.classes) == ""


def test_praise_alone_is_told_for_a_model_that_is_nearly_always_right(
    published: Published, store: RecordStore
) -> None:
    ask(store, np.full(2000, 0.7), "r")
    label(store, {k: True for k in range(2000) if k % 30}, "r")
    watch = watch_of(published, store, floor=0.97)
    state = watch.look(LabelState(), NOW + 10 * 86_400_000_000)
    assert state.thumbs_up.seen
    assert state.bias(published.bundle.manifest.classes) == THUMBS_UP, "3 % may be kept back"


def test_thumbs_up_only_is_seen(published: Published, store: RecordStore) -> None:
    ask(store, np.full(3000, 0.7), "r")
    label(store, {k: True for k in range(3000) if k % 3}, "r")
    watch = watch_of(published, store)
    state = watch.look(LabelState(), NOW)
    assert state.thumbs_up.seen
    assert state.bias(published.bundle.manifest.classes) == THUMBS_UP
    assert state.harm.alarm is None


def test_labels_of_flagged_requests_alone_say_nothing_of_the_others_and_start_nothing(
    published: Published, store: RecordStore
) -> None:
    ask(store, np.full(300, 0.99), "r")
    label(store, {k: k % 2 == 0 for k in range(300)}, "r")
    watch = LabelWatch(published.bundle, store, c=1e6, only_flagged=True)
    watch.floor = 0.96
    state = watch.look(LabelState(), NOW)
    assert state.bias(published.bundle.manifest.classes).startswith(ONLY_FLAGGED)
    judged = watch.judge(state, Poststratified(0.5, 0.45, 0.55, 300, 0.0))
    assert judged.alarm is not None
    assert (judged.doubt, judged.acts) == (ONLY_FLAGGED, False)
    fair = watch_of(published, store)
    assert fair.judge(fair.look(state, NOW), None).acts


def test_without_a_promised_accuracy_labels_are_read_and_harm_says_nothing(
    published: Published, store: RecordStore
) -> None:
    ask(store, np.full(200, 0.9), "r")
    label(store, dict.fromkeys(range(200), False), "r")
    watch = watch_of(published, store, floor=float("nan"))
    state = watch.look(LabelState(), NOW)
    assert state.harm.labels == 0
    assert state.label > 0
    assert watch.judge(state, None).promise.startswith("none")


def test_a_store_that_begins_anew_is_read_from_its_beginning(
    published: Published, store: RecordStore, tmp_path: Path
) -> None:
    ask(store, np.full(150, 0.9), "r")
    label(store, dict.fromkeys(range(150), True), "r")
    state = watch_of(published, store).look(LabelState(), NOW)
    fresh = RecordStore(f"sqlite:///{tmp_path}/fresh.sqlite")
    ask(fresh, np.full(20, 0.9), "r")
    label(fresh, dict.fromkeys(range(20), True), "r")
    state = watch_of(published, fresh).look(state, NOW)
    assert state.harm.labels == 170
    fresh.close()
