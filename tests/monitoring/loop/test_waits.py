"""It says why it does not retrain yet: every reason, with its numbers, in one sentence each."""

import time
from pathlib import Path

import msgspec

from models.versions.registry_state import Hold
from monitoring.evidence.labels.harm import HarmAlarm
from monitoring.evidence.labels.watch import Harm
from monitoring.loop.cooling import Rest
from monitoring.loop.deciding.waits import (
    NOT_KNOWN,
    Needs,
    Wait,
    find_latest,
    find_waits,
    list_waits,
    waits_text,
)
from monitoring.loop.jobs import LABELS_APPROVAL
from monitoring.loop.results import WindowFacts
from monitoring.loop.triggers import Policy, Situation
from monitoring.records.store import RecordStore
from tests.monitoring.loop.lab import Lab, job_of

IDLE = Situation(1, None, None, 0)
NOW = 1000.0
ALARM = HarmAlarm(200, 6.2, 900.0, 80, 100)
QUIET = Harm(120, 0.4, 6.0, 0.95, None, "", "no harm is seen in 120 labels", "")
HARMED = msgspec.structs.replace(QUIET, alarm=ALARM)


def reasons(situation: Situation = IDLE, harm: Harm | None = HARMED) -> dict[str, Wait]:
    waits = list_waits(situation, (), Policy(), harm, NOW)
    return {wait.reason: wait for wait in waits}


def test_nothing_stands_in_the_way_of_harm_that_is_known() -> None:
    assert reasons() == {}
    assert waits_text([]) == "nothing stands in the way now"


def test_evidence_that_is_not_enough_is_told_with_both_numbers() -> None:
    wait = reasons(harm=QUIET)["not_harmed"]
    assert wait.sentence == "harm evidence 0.4 of 6.0 (powers of ten) in 120 labels"
    assert (wait.value, wait.needed) == (0.4, 6.0)


def test_without_labels_it_says_that_it_does_not_know() -> None:
    for harm in (None, msgspec.structs.replace(QUIET, labels=0)):
        assert reasons(harm=harm)["not_harmed"].sentence == NOT_KNOWN


def test_doubt_about_labels_is_the_reason_and_not_missing_harm() -> None:
    wait = reasons(harm=msgspec.structs.replace(HARMED, doubt="labels are no random sample"))
    assert set(wait) == {"labels_biased"}


def test_every_bound_is_told_with_its_end() -> None:
    hold = Hold("ada", "audit week", "2026-01-01T00:00:00.000Z", until=5000.0)
    rest = Rest(since=900.0)
    situation = msgspec.structs.replace(IDLE, hold=hold, rest=rest, runs_today=20, pinned=3)
    waits = reasons(situation)
    assert set(waits) == {"held", "cool_down", "daily_budget", "pinned"}
    assert waits["held"].until == 5000.0
    assert waits["cool_down"].until == 1200.0
    assert "00:20:00 UTC" in waits["cool_down"].sentence
    assert (waits["daily_budget"].value, waits["daily_budget"].needed) == (20, 20)
    text = waits_text(waits.values())
    assert text.startswith("not retrained yet: ")
    assert all(wait.sentence in text for wait in waits.values())


def test_a_job_that_is_at_it_or_waits_is_named_with_its_stage() -> None:
    runs = msgspec.structs.replace(job_of("a"), stage="awaiting labels")
    asks = msgspec.structs.replace(job_of("b"), stage=LABELS_APPROVAL, state="waiting")
    waits = list_waits(IDLE, [runs, asks], Policy(), HARMED, NOW)
    assert [wait.reason for wait in waits] == ["already_running"] * 2
    assert "job a is at 'awaiting labels'" in waits[0].sentence
    assert f"job b waits at '{LABELS_APPROVAL}'" in waits[1].sentence


def test_a_model_without_a_champion_has_nothing_to_harm() -> None:
    assert set(reasons(msgspec.structs.replace(IDLE, champion=None), QUIET)) == {"no_champion"}


def test_the_newest_run_that_trained_nothing_anew_is_what_it_waits_for() -> None:
    window = WindowFacts("unknown", 480, 106)
    then = msgspec.structs.replace(job_of("a"), created_at=10.0, state="done", tried="it repeats")
    then = msgspec.structs.replace(then, window=window)
    now = msgspec.structs.replace(then, id="b", created_at=20.0, tried="")
    assert find_latest([], 1) is None
    assert find_latest([then, now], 1) == now
    assert find_latest([then], 2) is None, "another champion"
    for kind in ("evaluate", "evaluate_robustness", "retrain"):
        other = msgspec.structs.replace(now, id="c", created_at=30.0, kind=kind, window=None)
        assert find_latest([then, other], 1) == then, "its labels were not looked at"


def test_what_was_tried_stands_though_other_runs_and_later_harm_came(tmp_path: Path) -> None:
    """By `find_waits`: harm that begins after the run does not make it forgotten."""
    lab, now = Lab(tmp_path), time.time()
    tried = msgspec.structs.replace(
        job_of("then"), state="done", outcome="inconclusive", tried="job x has trained",
        window=WindowFacts("pass", 480, 457), created_at=now + 1,
    )  # fmt: skip
    look = msgspec.structs.replace(tried, id="look", window=None, tried="", created_at=now + 2)
    lab.put(tried, look)
    records = RecordStore(lab.database_url)
    waits = find_waits(
        "digits", lab.registry, lab.store(), records, None, Needs(), HARMED, now + 5, now + 9
    )
    records.close()
    assert [w.sentence for w in waits if w.reason == "tried_already"] == ["job x has trained"]
