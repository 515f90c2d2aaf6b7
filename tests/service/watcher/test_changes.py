"""A person is obeyed: holds, releases, champions and answers by HTTP, each with who and why."""

import errno
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.versions import registry_files
from models.versions.registry_state import Acceptance
from monitoring.loop.jobs import Job
from monitoring.watching.watcher import Watcher
from service.watcher.reasons import MOST_CHARACTERS, NO_REASON
from tests.models.versions.test_registry import WHY
from tests.service.watcher.conftest import Caller, post, refused, told

HOUR = 3600.0


def waiting(watcher: Watcher, job_id: str = "j1", model: str = "fine") -> Job:
    """A job whose challenger waits for a person."""
    job = Job(job_id, "evaluate", model, 2, "drift", "because", 0.0, time.time(), challenger=3)
    watcher.jobs.put(job)
    return watcher.jobs.ask(job_id)


CHANGES: dict[str, dict[str, Any]] = {
    "hold": {},
    "release": {},
    "rollback": {},
    "promote": {"version": 3},
    "accept-drift": {"undo": True},
}
AUDITED = {"accept-drift": "undo_accept_drift"}  # where the action has another name


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("name", "actor"), [("admin", "admin"), ("ada", "token ada")])
def test_the_audit_names_the_token_and_the_reason(
    client: Caller, watcher: Watcher, secrets: dict[str, str], change: str, name: str, actor: str
) -> None:
    client.secret = secrets[name]
    watcher.registry.hold("fine", **WHY)
    watcher.registry.accept("fine", Acceptance(2, 0.0, 1.0, 1.0, "ada", "a trial", "1970-01-01"))
    told(client, f"/models/fine/{change}", reason="  looks right ", **CHANGES[change])
    last = watcher.registry.audit("fine")[-1]
    action = AUDITED.get(change, change)
    assert (last.action, last.actor, last.reason) == (action, actor, "looks right")
    assert last.by_person
    told(client, "/models/fine/hold")
    assert watcher.registry.audit("fine")[-1].reason == NO_REASON


@pytest.mark.parametrize("path", [f"/models/fine/{change}" for change in CHANGES])
def test_who_may_only_predict_changes_nothing(
    client: Caller, watcher: Watcher, secrets: dict[str, str], path: str
) -> None:
    before = watcher.registry.audit("fine")
    client.secret = secrets["app"]
    refused(client, path, 403, version=3)
    client.secret = ""
    refused(client, path, 401, version=3)
    assert watcher.registry.audit("fine") == before


def test_a_hold_has_an_end_or_none_and_is_shown(client: Caller, watcher: Watcher) -> None:
    now = time.time()
    for_ever = told(client, "/models/held/hold", reason="audit week")
    assert (for_ever["champion"], for_ever["hold"]["until"]) == (2, None)
    assert for_ever["note"] == (
        "held is held by token ada until it is released (audit week): "
        "the loop does nothing until: holdfast models release held"
    )
    hours = told(client, "/models/held/hold", hours=1.5)["hold"]
    assert now + 1.5 * HOUR <= hours["until"] <= time.time() + 1.5 * HOUR
    end = datetime.fromtimestamp(now + HOUR, UTC)
    at = told(client, "/models/held/hold", until=end.isoformat())["hold"]
    assert at["until"] == pytest.approx(now + HOUR)
    assert told(client, "/models/held/hold", until=now + 60)["hold"]["until"] == now + 60
    watcher.tick(now)
    shown = {row["model"]: row["hold"] for row in client.get("/models")}
    assert shown["fine"] is None
    assert (shown["held"]["actor"], shown["held"]["until"]) == ("token ada", now + 60)
    released = told(client, "/models/held/release", reason="over")
    assert (released["hold"], released["released"]["until"]) == (None, now + 60)
    assert told(client, "/models/held/release")["released"] is None


def test_a_rollback_holds_and_says_so_and_a_promotion_goes_through_the_hold(
    client: Caller, watcher: Watcher
) -> None:
    back = told(client, "/models/fine/rollback", reason="complaints")
    assert (back["champion"], back["hold"]["stops"]) == (1, "promotions")
    assert "the loop only reports until: holdfast models release fine" in back["note"]
    up = told(client, "/models/fine/promote", version=3, expected=1)
    assert (up["champion"], up["hold"]) == (3, back["hold"]), "the hold stays"
    moved = refused(client, "/models/fine/promote", 409, version=1, expected=2)
    assert "the champion is 3" in moved["detail"]


def test_the_first_answer_counts_and_the_second_learns_who_gave_it(
    client: Caller, watcher: Watcher, secrets: dict[str, str]
) -> None:
    waiting(watcher)
    first = told(client, "/jobs/j1/reject", reason="the labels are wrong")
    assert first == {
        "id": "j1",
        "answer": "reject",
        "actor": "token ada",
        "reason": "the labels are wrong",
    }
    client.secret = secrets["admin"]
    second = refused(client, "/jobs/j1/approve", 409)
    assert "rejected by 'token ada'" in second["detail"]
    assert "the labels are wrong" in second["detail"]
    assert second["answer"]["actor"] == "token ada"
    assert client.get("/jobs/j1")["answer"]["approved"] is False


def test_of_many_who_answer_at_once_one_counts(client: Caller, watcher: Watcher) -> None:
    for k in range(5):
        waiting(watcher, f"j{k}")
    calls = [(f"/jobs/j{k}/{word}", word) for k in range(5) for word in ("approve", "reject") * 4]
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda call: post(client, call[0]).status_code, calls))
    for k in range(5):
        mine = [(s, c) for s, c in zip(statuses, calls, strict=True) if f"/j{k}/" in c[0]]
        assert sorted(status for status, _ in mine) == [202] + [409] * 7
        (word,) = [call[1] for status, call in mine if status == 202]
        answer = watcher.jobs.get(f"j{k}").answer
        assert answer is not None
        assert answer.approved == (word == "approve")


def test_a_job_that_does_not_wait_is_a_409_that_says_where_it_stands(
    client: Caller, watcher: Watcher
) -> None:
    watcher.jobs.put(Job("j1", "evaluate", "fine", 2, "drift", "", 0.0, 0.0, stage="training"))
    assert "it is training" in refused(client, "/jobs/j1/approve", 409)["detail"]
    watcher.jobs.end("j1", "refused", "a gate failed")
    assert "refused" in refused(client, "/jobs/j1/reject", 409)["detail"]
    refused(client, "/jobs/j2/approve", 404)


def test_under_a_hold_nothing_is_approved_and_a_rejection_goes(
    client: Caller, watcher: Watcher
) -> None:
    for job_id in ("j1", "j2"):
        waiting(watcher, job_id, "held")
    watcher.registry.hold("held", actor="token bob", reason="audit week")
    answer = refused(client, "/jobs/j1/approve", 409)
    for way in ("held by token bob", "holdfast models promote", "holdfast models release held"):
        assert way in answer["detail"]
    assert answer["hold"]["reason"] == "audit week"
    assert watcher.jobs.get("j1").state == "waiting", "it may be approved after the release"
    told(client, "/jobs/j2/reject")
    told(client, "/models/held/release")
    told(client, "/jobs/j1/approve")


def test_a_torn_model_is_named_and_mended_and_the_others_go_on(
    client: Caller, watcher: Watcher
) -> None:
    (watcher.registry.root / "torn" / "aliases.json").write_bytes(b"\x00" * 80)
    assert "damaged" in refused(client, "/jobs", 409, model="torn", kind="evaluate")["detail"]
    told(client, "/models/fine/hold")
    watcher.tick(time.time())
    rows = {row["model"]: row for row in client.get("/models")}
    assert rows["torn"]["hold"] is None
    assert rows["fine"]["hold"]["actor"] == "token ada"
    assert told(client, "/models/torn/promote", version=3)["champion"] == 3
    assert told(client, "/jobs", model="torn", kind="evaluate")["state"] == "running"


def test_a_person_needs_no_budget_and_is_told_what_is_at_it(client: Caller) -> None:
    job = told(client, "/jobs", model="fine", kind="retrain", reason="on purpose")
    assert (job["source"], job["reason"]) == ("person", "on purpose")
    busy = refused(client, "/jobs", 409, model="fine", kind="evaluate")
    assert busy["detail"] == f"already_running: job {job['id']} is at it"
    refused(client, "/jobs", 404, model="nope", kind="evaluate")


def test_a_run_that_cannot_be_started_now_is_a_503(client: Caller, watcher: Watcher) -> None:
    def locked(job: Job) -> None:
        raise OSError("the store is locked")

    watcher.dispatcher.start_job = locked
    answer = post(client, "/jobs", model="fine", kind="evaluate")
    assert answer.status_code == 503
    assert "the store is locked" in answer.get_json()["detail"]
    assert answer.headers["Retry-After"]


def test_a_store_that_is_locked_is_a_503_and_the_registry_goes_on(
    client: Caller, watcher: Watcher, tmp_path: Path
) -> None:
    waiting(watcher)
    other = sqlite3.connect(tmp_path / "jobs.sqlite")
    other.execute("BEGIN EXCLUSIVE")
    for path, body in (("/jobs", {"model": "fine", "kind": "evaluate"}), ("/jobs/j1/reject", {})):
        answer = post(client, path, **body)
        assert answer.status_code == 503, answer.text
        assert "the database is locked" in answer.get_json()["detail"]
    assert told(client, "/models/fine/hold")["hold"] is not None
    other.rollback()
    other.close()
    told(client, "/jobs/j1/reject")


def test_a_full_disk_is_a_503_and_what_was_left_is_mended(
    client: Caller, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes, mode: int = 0) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(registry_files, "write_atomic", full)
        answer = post(client, "/models/fine/promote", version=3)
        assert answer.status_code == 503
        assert "the disk is full" in answer.get_json()["detail"]
    assert told(client, "/models/fine/promote", version=3)["champion"] == 3
    actions = [record.action for record in watcher.registry.audit("fine")]
    assert actions.count("promote") == 3, "two of before, and this one once"


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("/models/fine/hold", {"hours": -1, "reason": "a\n", "x": 1}, ["hours", "reason", "x"]),
        ("/models/fine/hold", {"hours": True, "until": "tomorrow"}, ["hours", "until"]),
        ("/models/fine/promote", {"expected": "2", "reason": 7}, ["expected", "reason", "version"]),
        ("/jobs", {"kind": "delete", "since": -1, "options": []},
         ["kind", "since", "options", "model"]),
    ],
)  # fmt: skip
def test_all_that_is_wrong_is_said_at_once(
    client: Caller, watcher: Watcher, path: str, body: dict[str, Any], fields: list[str]
) -> None:
    before = watcher.registry.audit("fine")
    answer = refused(client, path, 400, **body)
    assert [fault["field"] for fault in answer["errors"]] == fields
    assert all(f"{field}: expected" in answer["detail"] for field in fields)
    assert watcher.registry.audit("fine") == before


@pytest.mark.parametrize(
    "body",
    [
        {"hours": 0},
        {"hours": 1e9},
        {"hours": "1"},
        {"hours": 10**400},
        {"until": 5.0},
        {"until": "2020-01-01T00:00:00Z"},
        {"until": "2099-01-01T00:00:00"},
        {"until": "9999-12-31T23:59:59Z"},
        {"hours": 1, "until": "2030-01-01T00:00:00Z"},
        {"reason": "x" * (MOST_CHARACTERS + 1)},
        {"reason": "\x1b[31mred"},
        {"reason": "turned \u202e about"},
        {"reason": ["no"]},
    ],
)
def test_what_is_no_hold_is_a_400_that_names_the_member(
    client: Caller, watcher: Watcher, body: dict[str, Any]
) -> None:
    answer = refused(client, "/models/fine/hold", 400, **body)
    assert answer["field"] in body
    assert watcher.registry.find_hold("fine") is None


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
members = st.sampled_from(["reason", "hours", "until", "version", "expected", "kind", "model", "x"])


@given(
    body=st.dictionaries(members, anything, max_size=4) | anything,
    path=st.sampled_from(
        [f"/models/{m}/{change}" for m in ("fine", "nope", "..%2f") for change in CHANGES]
        + ["/jobs", "/jobs/j1/approve", "/jobs/nope/reject"]
    ),
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_body_is_a_server_error_and_none_leaves_an_unfit_reason(
    client: Caller, watcher: Watcher, body: Any, path: str
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code < 500, (body, answer.text)
    last = watcher.registry.audit("fine")[-1]
    assert len(last.reason) <= MOST_CHARACTERS
    assert last.reason.isprintable() or "\u200d" in last.reason or not last.reason.isascii()
