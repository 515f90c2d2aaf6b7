"""Laws of the stream: every request is counted once, whatever restarts and whoever crashes."""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import pytest

from models.data import DataSet
from models.evaluation.subject import answer
from models.versions.bundle import Bundle
from monitoring.counting.counters import Counts
from monitoring.evidence.explanation import explain, histogram_text
from monitoring.evidence.stream import Stream, references
from monitoring.records.store import Record, RecordStore
from tests.conftest import Published
from tests.killing import in_child

C = 1e4


class Service:
    """What a service counts: cells of held-out rows, or of dark ones when the lights go out."""

    def __init__(self, published: Published, digits: DataSet, seed: int = 0) -> None:
        self.rng, self.bundle = np.random.default_rng(seed), published.bundle
        x = digits.calibration.x
        self.clean = answer(published.runner, x).cells
        self.dark = answer(published.runner, (x * np.float32(0.4))).cells
        self.counts: Counts = {}

    def serve(self, rows: int, *, dark: bool = False, version: int | None = None) -> Counts:
        """Answer some rows; the counters after that."""
        cells = self.dark if dark else self.clean
        number = str(version or self.bundle.manifest.version)
        for row in cells[self.rng.integers(0, len(cells), rows)]:
            for channel, cell in zip(self.bundle.manifest.channels, row, strict=True):
                key = ("digits", number, channel.name, int(cell))
                self.counts[key] = self.counts.get(key, 0) + 1
        return dict(self.counts)

    def restart(self) -> None:
        """Begin again from zero."""
        self.counts = {}


@pytest.fixture
def service(published: Published, digits: DataSet) -> Service:
    """A service that has answered nothing."""
    return Service(published, digits)


@pytest.fixture
def stream(published: Published, tmp_path: Path) -> Stream:
    """A stream without a past."""
    return begun(Stream.open(published.bundle, tmp_path, c=C))


def begun(stream: Stream, *services: str) -> Stream:
    """It has looked once at services that have counted nothing."""
    stream.add({name: {} for name in services or ("a",)}, now=0.0)
    return stream


def other_version(bundle: Bundle, version: int) -> Bundle:
    """The same model as another version."""
    return replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, version=version))


def test_counting_of_a_service_begins_with_its_first_look(stream: Stream, service: Service) -> None:
    past = service.serve(500, dark=True)
    assert stream.add({"b": past}, now=1.0) is None
    assert stream.evidence.requests == 0, "what was answered before is not weighed"
    stream.add({"b": service.serve(30)}, now=2.0)
    assert stream.evidence.requests == 30


def test_references_are_the_bundles_channels(published: Published) -> None:
    told = references(published.bundle)
    assert [r.name for r in told] == [c.name for c in published.bundle.manifest.channels]
    for reference in told:
        assert reference.alpha.sum() == pytest.approx(published.bundle.manifest.calibration.n + 1)


def test_clean_traffic_is_counted_and_raises_no_alarm(stream: Stream, service: Service) -> None:
    for k in range(5):
        assert stream.add({"a": service.serve(60)}, now=float(k)) is None
        assert stream.evidence.requests == 60 * (k + 1)
    assert stream.alarm_since is None


def test_drift_raises_one_alarm_with_its_time(stream: Stream, service: Service) -> None:
    stream.add({"a": service.serve(100)}, now=1.0)
    alarms = [stream.add({"a": service.serve(40, dark=True)}, now=10.0 + k) for k in range(5)]
    raised = [k for k, alarm in enumerate(alarms) if alarm is not None]
    assert len(raised) == 1, "told once, however long it goes on"
    assert stream.alarm_since == 10.0 + raised[0]
    assert stream.evidence.alarm is not None


def test_alarm_that_is_over_has_no_time(stream: Stream, service: Service) -> None:
    stream.add({"a": service.serve(100, dark=True)}, now=1.0)
    assert stream.alarm_since == 1.0
    for k in range(60):
        stream.add({"a": service.serve(60)}, now=2.0 + k)
        if stream.evidence.alarm is None:
            break
    assert stream.evidence.alarm is None
    assert stream.alarm_since is None


def test_services_add_up_and_one_that_is_away_loses_nothing(
    stream: Stream, published: Published, digits: DataSet
) -> None:
    one, two = Service(published, digits, 1), Service(published, digits, 2)
    begun(stream, "one", "two")
    stream.add({"one": one.serve(30), "two": two.serve(50)}, now=1.0)
    assert stream.evidence.requests == 80
    two.serve(20)  # not reached
    stream.add({"one": one.serve(10)}, now=2.0)
    assert stream.evidence.requests == 90
    stream.add({"one": one.serve(0), "two": two.serve(5)}, now=3.0)
    assert stream.evidence.requests == 115


def test_restart_of_a_service_is_counted_from_zero(stream: Stream, service: Service) -> None:
    stream.add({"a": service.serve(200)}, now=1.0)
    service.restart()
    stream.add({"a": service.serve(3)}, now=2.0)
    assert 200 < stream.evidence.requests <= 203
    stream.add({"a": service.serve(50)}, now=3.0)
    assert 250 < stream.evidence.requests <= 253


def test_state_survives_a_restart_of_the_watcher(
    stream: Stream, service: Service, published: Published
) -> None:
    stream.add({"a": service.serve(100)}, now=1.0)
    stream.add({"a": service.serve(60, dark=True)}, now=2.0)
    again = Stream.open(published.bundle, stream.path.parent, c=C)
    assert again.evidence.snapshot() == stream.evidence.snapshot()
    assert again.totals == stream.totals
    assert again.alarm_since == stream.alarm_since == 2.0
    looks = {"a": service.serve(50)}
    for each in (stream, again):
        each.add(looks, now=3.0)
    assert again.evidence.snapshot() == stream.evidence.snapshot()
    assert again.evidence.requests == 210


def test_watcher_killed_while_it_keeps_a_look_counts_every_request_once(
    published: Published, service: Service, tmp_path: Path
) -> None:
    first, second = service.serve(60), service.serve(60, dark=True)
    expected = None
    for line in range(1, 10_000):
        with TemporaryDirectory(dir=tmp_path) as folder:
            stream = begun(Stream.open(published.bundle, Path(folder), c=C))
            stream.add({"a": first}, now=1.0)
            killed = in_child(
                lambda s=stream: s.add({"a": second}, now=2.0),
                die_at_line=line,
                within=r"models/base/files|stream\.py:(_weigh|save)",
            )
            again = Stream.open(published.bundle, Path(folder), c=C)
            again.add({"a": second}, now=3.0)
            snapshot = again.evidence.snapshot()
            expected = expected or snapshot
            assert snapshot == expected
            assert again.evidence.requests == 120
            assert again.evidence.alarm is not None
            assert again.alarm_since in (2.0, 3.0), "an alarm always has its time"
            if not killed:
                break
    assert line > 20


def test_new_version_starts_afresh_and_the_old_one_is_not_recounted(
    stream: Stream, service: Service, published: Published
) -> None:
    folder = stream.path.parent
    stream.add({"a": service.serve(100, dark=True)}, now=1.0)
    assert stream.alarm_since == 1.0
    new = Stream.open(other_version(published.bundle, 2), folder, c=C)
    assert (new.evidence.requests, new.alarm_since) == (0, None)
    new.add({"a": service.serve(0)}, now=2.0)
    new.add({"a": service.serve(30, version=2)}, now=3.0)
    assert new.evidence.requests == 30
    back = Stream.open(published.bundle, folder, c=C)  # rolled back
    assert back.add({"a": service.serve(0)}, now=4.0) is None
    assert back.add({"a": service.serve(20)}, now=5.0) is None
    assert back.evidence.requests == 20, "what it answered before is in the past"


def test_other_models_are_other_streams(stream: Stream, service: Service) -> None:
    counts = service.serve(10) | {("other", "1", "energy", 0): 99.0}
    stream.add({"a": counts}, now=1.0)
    assert stream.evidence.requests == 10


def test_unknown_channels_and_cells_are_logged_and_left_out(
    stream: Stream, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    strange: Counts = {("digits", "1", "colour", 0): 5.0, ("digits", "1", "class", 10): 7.0}
    stream.add({"a": service.serve(25) | strange}, now=1.0)
    assert stream.evidence.requests == 25
    said = "".join(capsys.readouterr())
    assert said.count("unknown_cell") == 2
    assert "colour" in said


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"version": 1}',
        b'{"version": 1, "evidence": {}, "alarm_since": null, "totals": {}}',
        b'{"version": 1, "evidence": null, "alarm_since": null, "totals": {}}',
        b"\xff",
    ],
)
def test_unusable_state_is_logged_and_the_stream_starts_afresh(
    damage: bytes, published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "digits.json").write_bytes(damage)
    stream = Stream.open(published.bundle, tmp_path, c=C)
    assert stream.evidence.requests == 0
    assert "evidence_state_unusable" in "".join(capsys.readouterr())
    stream.save()
    assert json.loads(stream.path.read_bytes())["version"] == 1


def test_an_alarm_is_explained_by_the_requests_that_moved_it(
    stream: Stream, service: Service, digits: DataSet, tmp_path: Path
) -> None:
    store = RecordStore(f"sqlite:///{tmp_path / 'records.db'}")
    stream.add({"a": service.serve(200)}, now=1.0)
    alarm = stream.add({"a": service.serve(60, dark=True)}, now=2.0)
    assert alarm is not None
    unseen = explain(alarm, stream.bundle, store, 2.0, lambda request: None)
    assert (unseen.first_at, unseen.last_at) == (None, None), "not known"
    assert unseen.movers == ()
    assert "recorded" in unseen.note
    rows = [(digits.calibration.x[k] * np.float32(0.4), f"dark{k}") for k in range(200)]
    store.add(
        [
            Record(name, 0, 1.0 + k, "digits", stream.version, x.tobytes(), 0, 0.5, 0.1, 0.9, 0.3)
            for k, (x, name) in enumerate(rows)
        ]
    )
    weighed = {alarm.onset.first: (0.5, 1.0), alarm.onset.last: (1.0, 2.0)}
    told = explain(alarm, stream.bundle, store, 2.0, weighed.__getitem__)
    assert told.note == ""
    assert 1 <= len(told.movers) <= 5
    assert all(mover.id.startswith("dark") and mover.gain > 0 for mover in told.movers)
    assert told.onset.first <= 200 <= told.onset.last
    assert (told.first_at, told.last_at) == (0.5, 2.0), "as weighed, whatever is recorded"
    assert sum(b.before for b in told.histogram) == pytest.approx(1)
    assert sum(b.after for b in told.histogram) == pytest.approx(1)
    assert len(histogram_text(told).splitlines()) == len(told.histogram) + 1
    stream.explained = told
    stream.save()
    assert Stream.open(stream.bundle, stream.path.parent, c=C).explained == told
    manifest = msgspec.structs.replace(stream.bundle.manifest, version=2)
    later = Stream.open(replace(stream.bundle, manifest=manifest), stream.path.parent, c=C)
    assert later.explained == told  # a loop that is quick must not take the explanation along
    assert later.evidence.requests == 0


def test_the_promise_knows_the_rate_of_the_traffic(stream: Stream, service: Service) -> None:
    assert "not known" in stream.promise
    for second in range(1, 5):
        stream.add({"a": service.serve(20)}, now=float(second))
    assert stream.per_second == pytest.approx(20)
    assert "8 minutes at 20 requests a second" in stream.promise  # C = 10,000
