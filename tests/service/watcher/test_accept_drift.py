"""This is normal now: a recorded period is accepted, and taken back, by HTTP."""

import time

import pytest

from monitoring.counting.counters import Page
from monitoring.watching.watcher import Watcher
from tests.models.versions.test_registry import WHY
from tests.service.watcher.conftest import Caller, refused, told


def busy(watcher: Watcher, model: str, requests: int) -> float:
    """Let the watcher look at a model and record requests like its reference; when it began."""
    began = time.time() - 1000
    watcher.tick(began - 10)
    bundle, rows = watcher.streams[model].bundle, 0

    def look(now: float) -> dict[str, Page]:
        cells = {}
        for channel in bundle.manifest.channels:
            alpha = bundle.reference[f"{channel.name}/alpha"].astype(float)
            for cell, count in enumerate((alpha / alpha.sum() * rows).round()):
                cells[(model, str(bundle.manifest.version), channel.name, cell)] = float(count)
        return {"a service": Page(cells)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watcher.services, "look", look)
        watcher.tick(began)
        for k in range(8):
            rows += -(-requests // 8)
            watcher.tick(began + 100 * k)
    return began


def test_a_period_is_accepted_and_taken_back_by_http_with_who_and_why(
    client: Caller, watcher: Watcher
) -> None:
    path = "/models/fine/accept-drift"
    began = busy(watcher, "fine", 4000)
    answer = told(client, path, since=began, reason="summer")
    assert answer["accepted"]["actor"] == "token ada"
    assert answer["agreement"]["requests"] == pytest.approx(4000, rel=0.01)
    assert not answer["agreement"]["band"]
    assert "less than a cycle of 24 hours" in answer["note"]
    record = watcher.registry.audit("fine")[-1]
    assert (record.action, record.actor, record.reason) == ("accept_drift", "token ada", "summer")
    assert record.by_person
    assert record.accepted == watcher.registry.state("fine").accepted
    watcher.registry.hold("fine", **WHY)
    assert watcher.registry.state("fine").accepted == record.accepted, "another change keeps it"
    assert client.get("/models")[0]["accepted"] is None, "the next look takes it"
    watcher.tick(time.time())
    (row,) = (row for row in client.get("/models") if row["model"] == "fine")
    assert row["accepted"] == answer["accepted"]
    assert row["learnt"]["recorded"]["requests"] == pytest.approx(4000, rel=0.01)
    undone = told(client, path, undo=True, reason="autumn")
    assert (undone["accepted"], undone["undone"]) == (None, answer["accepted"])
    assert watcher.registry.audit("fine")[-1].action == "undo_accept_drift"
    assert told(client, path, undo=True)["undone"] is None
    watcher.tick(time.time())
    (row,) = (row for row in client.get("/models") if row["model"] == "fine")
    assert row["accepted"] is None


def test_what_cannot_be_accepted_is_refused_with_every_reason_and_changes_nothing(
    client: Caller, watcher: Watcher
) -> None:
    path = "/models/fine/accept-drift"
    unwatched = refused(client, path, 409)
    assert "fine is not watched" in unwatched["detail"]
    watcher.tick(time.time())
    (fault,) = refused(client, path, 409)["faults"]
    assert "no request of version 2 of fine is recorded yet" in fault
    began = busy(watcher, "fine", 4000)
    before = watcher.registry.audit("fine")
    late, early = refused(client, path, 409, since=began - 99, until=time.time() + 99)["faults"]
    assert "still to come" in late
    assert "is not recorded: recorded are" in early
    other = refused(client, path, 409, since=began, expected=1)
    assert "version 2 of fine is watched, not 1" in other["detail"]
    wrong = refused(client, path, 400, since="tomorrow", cycle=24, undo="yes")
    assert [error["field"] for error in wrong["errors"]] == ["since", "cycle", "undo"]
    refused(client, "/models/nobody/accept-drift", 404)
    assert watcher.registry.audit("fine") == before
