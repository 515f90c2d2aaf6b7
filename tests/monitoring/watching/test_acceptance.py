"""Laws of "this is normal now": it ends an alarm, hides nothing else, and is refused in words."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from structlog.testing import capture_logs

from models.versions.registry import Registry
from models.versions.registry_state import Acceptance
from monitoring.evidence.accepted import Accepted
from monitoring.evidence.channels import StreamEvidence
from monitoring.evidence.stream import Stream
from monitoring.loop.triggers import Policy
from monitoring.watching.acceptance import AcceptanceError, Agreement, Wish, agree
from monitoring.watching.history import History
from tests.monitoring.streams import Score, classes
from tests.monitoring.watching.stage import CountingService, Watching, listening

MODEL, DAY = "alpha", 86_400.0
Shares = dict[str, npt.NDArray[np.float64]]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[tuple[Watching, CountingService]]:
    """A watcher that looks at one service; a look at drift is far away."""
    counting = CountingService(Registry(Watching(tmp_path).registry.root))
    with listening(counting) as url:
        watching = Watching(tmp_path, url, policy=Policy(cool_down_seconds=1e6))
        watching.tick()
        yield watching, counting
        watching.close()


def usual(watching: Watching) -> Shares:
    """The shares of the reference's cells, by channel."""
    bundle = watching.bundles[MODEL]
    names = [channel.name for channel in bundle.manifest.channels]
    alphas = {name: bundle.reference[f"{name}/alpha"].astype(float) for name in names}
    return {name: alpha / alpha.sum() for name, alpha in alphas.items()}


def moved(shares: Shares, *, only: str = "") -> Shares:
    """The same with a third of the requests in the cells of the first half."""

    def move(row: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        first = np.where(np.arange(len(row)) < len(row) // 2, row, 0)
        return row * 2 / 3 + first / first.sum() / 3

    return {name: row if only and name != only else move(row) for name, row in shares.items()}


def serve(
    watching: Watching, counting: CountingService, shares: Shares, looks: int, *,
    rows: int = 250, seconds: float = 2.0,
) -> bool:  # fmt: skip
    """Serve so many rows before each of so many looks; whether an alarm is on after one of them."""
    on = False
    for _ in range(looks):
        for name, row in shares.items():
            for cell, count in enumerate(counting.rng.multinomial(rows, row)):
                counting.cells.labels(MODEL, "1", name, f"{cell:02d}").inc(int(count))
        counting.predictions.labels(MODEL, "0").inc(rows)
        watching.tick(seconds=seconds)
        on |= watching.row(MODEL)["alarm"] is not None
    return on


def stream_of(watching: Watching) -> tuple[Stream, History]:
    stream = watching.watcher.streams[MODEL]
    return stream, watching.watcher.acceptances.history(stream)


def accept(watching: Watching, **wish: float) -> Agreement:
    """A person accepts a period, as the call and the command do."""
    agreement = agree(Wish(**wish), *stream_of(watching), watching.now)
    cycle = wish.get("cycle_seconds", DAY)
    watching.registry.accept(MODEL, word(agreement.since, agreement.until, cycle))
    return agreement


def word(since: float, until: float, cycle_seconds: float = DAY) -> Acceptance:
    at = "2026-01-01T00:00:00.000Z"
    return Acceptance(1, since, until, cycle_seconds, "token ada", "a new scanner", at)


def test_traffic_that_moves_and_comes_back_ends_calm_and_undone_it_alarms_again(
    scene: tuple[Watching, CountingService],
) -> None:
    watching, counting = scene
    before = usual(watching)
    after = moved(before)
    assert not serve(watching, counting, before, 8)
    assert serve(watching, counting, after, 8)
    agreement = accept(watching)
    assert 1000 <= agreement.requests <= 2000, "the requests before the change are left out"
    with capture_logs() as logged:
        assert not serve(watching, counting, after, 10), "what was accepted is normal"
    (line,) = [line for line in logged if line["event"] == "drift_accepted"]
    assert line["words"] == word(agreement.since, agreement.until).words()
    assert line["requests"] == agreement.requests
    assert watching.row(MODEL)["accepted"]["actor"] == "token ada"
    watching.again()
    watching.tick()
    assert not serve(watching, counting, after, 4), "over a restart"
    assert serve(watching, counting, before, 4), "what was normal once is a change now"
    watching.registry.undo_acceptance(MODEL, actor="token ada", reason="it was a trial")
    assert not serve(watching, counting, before, 10)
    assert watching.row(MODEL)["accepted"] is None
    assert serve(watching, counting, after, 4)
    assert watching.problems(MODEL) == set()
    assert watching.started == [], "a person has said all that there was to say"


def test_a_cycle_that_was_accepted_as_a_whole_is_calm_and_beyond_it_there_is_an_alarm(
    scene: tuple[Watching, CountingService],
) -> None:
    watching, counting = scene
    day, hour = usual(watching), 3600.0
    night = moved(day, only="class")
    for shares in (day, night, day):
        serve(watching, counting, shares, 8, rows=1000, seconds=hour)
    since = watching.now - 24 * hour
    short = agree(Wish(since + hour), *stream_of(watching), watching.now)
    assert not short.band
    assert "less than a cycle" in short.words
    agreement = accept(watching, since=since, cycle_seconds=DAY)
    assert agreement.band, agreement.words
    watching.tick()
    row = watching.row(MODEL)
    assert row["alarm"] is None, "it had alarmed at night"
    assert len(row["learnt"]["class_band"]["low"]) == len(day["class"])
    for shares in (night, day, night):
        assert not serve(watching, counting, shares, 8, rows=1000, seconds=hour)
    assert serve(watching, counting, moved(night, only="class"), 8, rows=1000, seconds=hour)


def test_false_alarms_on_an_accepted_reference_stay_within_the_promise() -> None:
    c, requests, streams = 1e3, 500, 80
    rng, alarms = np.random.default_rng(7), 0
    score = Score("energy", rng.normal(size=2000))
    channels = [score.reference, classes("class", rng.integers(0, 4, 2000), 4)]
    for _ in range(streams):
        shares = {ref.name: rng.dirichlet(20 * ref.alpha / ref.alpha.max()) for ref in channels}
        evidence = StreamEvidence(channels, c=c)
        period = {name: rng.multinomial(2000, row).tolist() for name, row in shares.items()}
        evidence.retake(Accepted(period))
        for _ in range(requests // 100):
            evidence.update({name: rng.multinomial(100, row) for name, row in shares.items()})
        alarms += evidence.alarm is not None
    assert alarms <= stats.binom.ppf(1 - 1e-3, streams, requests / c)
    assert requests / c < 1, "the bound says something"


def test_what_cannot_be_accepted_is_said_all_at_once_with_what_is_recorded(
    scene: tuple[Watching, CountingService],
) -> None:
    watching, counting = scene

    def refused(now: float | None = None, **wish: float) -> list[str]:
        with pytest.raises(AcceptanceError) as caught:
            agree(Wish(**wish), *stream_of(watching), now or watching.now)
        return caught.value.faults

    assert "no request of version 1 of alpha is recorded yet" in refused(since=0.0)[0]
    began = watching.now
    serve(watching, counting, usual(watching), 3)
    (fault,) = refused()
    assert "no alarm of drift stands or stood at version 1: say from when on" in fault
    assert "recorded are 750 requests, from 2023-11-14T22:13:22Z" in fault
    later, earlier, early = refused(since=began - 10, until=began - 20, now=began - 30)
    assert "still to come" in later
    assert "before it" in earlier
    assert "is not recorded" in early
    (few,) = refused(since=began)
    assert "750 requests lie in blocks within" in few
    assert "1,000 are needed" in few
    serve(watching, counting, usual(watching), 3)
    assert agree(Wish(began), *stream_of(watching), watching.now).requests == 1500


def test_what_is_accepted_of_another_version_says_nothing_about_this_one(
    scene: tuple[Watching, CountingService],
) -> None:
    watching, counting = scene
    serve(watching, counting, usual(watching), 8)
    accepted = word(watching.now - 100, watching.now)
    state = watching.registry.state(MODEL)
    watching.registry.accept(MODEL, accepted)
    path = watching.registry.root / MODEL / "aliases.json"
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":2'))
    watching.tick()
    assert watching.row(MODEL)["accepted"] is None
    assert state.accepted is None


def test_an_acceptance_of_what_is_not_recorded_is_a_problem_by_name_and_changes_nothing(
    scene: tuple[Watching, CountingService],
) -> None:
    watching, counting = scene
    serve(watching, counting, usual(watching), 8)
    watching.registry.accept(MODEL, word(0.0, 1000.0))
    serve(watching, counting, usual(watching), 2)
    assert watching.problems(MODEL) == {"acceptance"}
    (trouble,) = watching.row(MODEL)["problems"]
    assert "0 requests lie in blocks" in trouble["detail"]
    assert "holdfast drift accept alpha --undo" in trouble["advice"]
    assert watching.row(MODEL)["requests"] == 2500, "the watch goes on"
    watching.registry.undo_acceptance(MODEL, actor="ada", reason="wrong year")
    watching.tick(2)
    assert watching.problems(MODEL) == set()


def hours_of(folder: Path, shares: list[float], *, seconds: float = 3600.0) -> History:
    """A look at 1000 requests of two classes every so often; an hour without any where NaN."""
    history, before = History.open(folder / "1.jsonl"), 0
    history.add({}, until=0.0, before=0)
    for k, share in enumerate(shares):
        first = 0 if np.isnan(share) else round(1000 * share)
        row = np.zeros(10, dtype=np.int64) if np.isnan(share) else np.array([first, 1000 - first])
        look = {"class": np.concatenate([row, np.zeros(10 - len(row), dtype=np.int64)])}
        history.add(look, until=seconds * (k + 1), before=before)
        before += int(look["class"].sum())
    return history


@pytest.mark.parametrize(
    ("shares", "seconds", "words"),
    [
        ([0.5] * 25, 3600.0, ""),
        ([0.5] * 25, 60.0, "25 minutes are less than a cycle of 24 hours"),
        ([0.5] * 15 + [np.nan] * 2 + [0.5] * 10, 3600.0, "one gap or one block"),
        ([0.5] * 25, 4500.0, "one gap or one block"),
        ([0.5] * 12 + [np.nan] * 12 + [0.5], 3600.0, "13 blocks of 1,000 requests"),
        ([0.0, 1.0] * 13, 3600.0, "of class 0, 1 the period shows blocks without any request"),
    ],
)
def test_limits_of_classes_rest_on_a_whole_cycle_that_is_recorded(
    shares: list[float], seconds: float, words: str, tmp_path: Path
) -> None:
    watching = Watching(tmp_path)
    watching.tick()
    stream, _ = stream_of(watching)
    history = hours_of(tmp_path, shares, seconds=seconds)
    agreement = agree(Wish(0.0, 40 * 3600.0, DAY), stream, history, watching.now)
    assert agreement.band == (not words), agreement.words
    assert words in agreement.words
    watching.close()


def test_the_exported_reference_is_what_traffic_is_compared_with(
    scene: tuple[Watching, CountingService],
) -> None:
    watching, counting = scene

    def exported() -> list[float]:
        cells = range(len(before["energy"]))
        values = [
            watching.sample(
                "holdfast_reference_ratio",
                model=MODEL, version="1", channel="energy", cell=f"{cell:02d}",
            )
            for cell in cells
        ]  # fmt: skip
        return [-1.0 if value is None else value for value in values]

    before = usual(watching)
    after = moved(before)
    assert exported() == pytest.approx(before["energy"].tolist())
    serve(watching, counting, after, 8)
    watching.registry.accept(MODEL, word(watching.now - 14.0, watching.now))
    watching.tick()
    accepted = exported()
    assert watching.watcher.streams[MODEL].accepted is not None
    assert accepted == pytest.approx(after["energy"].tolist(), abs=0.03)
    assert accepted != pytest.approx(before["energy"].tolist(), abs=0.003)
    watching.again()
    watching.tick()
    assert exported() == accepted, "over a restart"
    watching.registry.undo_acceptance(MODEL, actor="token ada", reason="it was a trial")
    watching.tick()
    assert exported() == pytest.approx(before["energy"].tolist())


def test_what_is_accepted_while_a_look_is_under_way_is_what_was_agreed(
    scene: tuple[Watching, CountingService],
) -> None:
    """The look that is noted between the decision and its effect takes nothing from the period."""
    watching, counting = scene
    began = watching.now
    serve(watching, counting, usual(watching), 6)
    stream, history = stream_of(watching)
    agreement = agree(Wish(began), stream, history, watching.now + 1)
    watching.tick()
    serve(watching, counting, usual(watching), 1, rows=40)
    watching.registry.accept(MODEL, word(agreement.since, agreement.until))
    watching.tick()
    assert watching.problems(MODEL) == set()
    accepted = stream.evidence.accepted
    assert accepted is not None
    assert sum(accepted.counts["class"]) == agreement.requests == 1500
