"""The verdict page over HTTP: of jobs that have ended, open to all, safe to show."""

import re
import time
from base64 import b64encode
from hashlib import sha256

from models.evaluation.gates.checks import Check
from models.versions.registry_state import Canary
from monitoring.loop.jobs import Job
from monitoring.watching.watcher import Watcher
from tests.models.versions.test_registry import WHY
from tests.service.watcher.conftest import Caller


def put(watcher: Watcher, job_id: str, reason: str = "because") -> Job:
    checks = (Check("parity", "fail", 0.3, 1e-4, "they differ"),)
    job = Job(job_id, "retrain", "fine", 2, "person", reason, 0.0, time.time(), checks=checks)
    watcher.jobs.put(job)
    return job


def test_page_says_why_and_only_its_own_style_applies(client: Caller, watcher: Watcher) -> None:
    put(watcher, "j1", reason="<script>alert(1)</script>")
    watcher.jobs.end("j1", "refused", "parity: they differ")
    answer = client.client.get("/jobs/j1/verdict")
    page = answer.get_data(as_text=True)
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert "refused: parity: they differ" in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    (style,) = re.findall("<style>(.*?)</style>", page, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = answer.headers["Content-Security-Policy"]
    assert f"'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_without_a_verdict_there_is_no_page(client: Caller, watcher: Watcher) -> None:
    put(watcher, "j2")
    running, unknown = (client.client.get(f"/jobs/{name}/verdict") for name in ("j2", "j3"))
    assert (running.status_code, unknown.status_code) == (409, 404)
    assert "has not ended: it is queued" in running.get_json()["detail"]


def test_models_say_what_is_compared_with_and_which_canary_answers(
    client: Caller, watcher: Watcher
) -> None:
    watcher.tick(time.time())

    def row() -> dict[str, object]:
        found: dict[str, object] = next(r for r in client.get("/models") if r["model"] == "fine")
        return found

    assert row()["anchor"] == {
        "version": 1, "attempts": 0, "alpha": 0.0, "passed": False, "event": ""
    }  # fmt: skip
    assert row()["canary"] is None
    canary = Canary(3, 0.1, time.time() + 600, "job")
    watcher.registry.begin_canary("fine", canary, expected=2, **WHY)
    assert row()["canary"] == {
        "version": 3, "share": 0.1, "until": canary.until, "event": "job"
    }  # fmt: skip
    watcher.registry.hold("fine", **WHY)
    assert row()["canary"] is None
