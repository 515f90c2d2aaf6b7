import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from monitoring.watching.pulse import Pulse
from service.cli import CONTEXT
from service.cli.doctor import doctor
from service.configuration.settings import load
from service.fleet.overrides import Repository
from tests import bundles


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models a (two versions) and b, each with a champion."""
    state = tmp_path_factory.mktemp("state")
    for name in ("a", "a", "b"):
        bundles.publish(state / "registry", name)
    return state


def told(state: Path, **settings: Any) -> tuple[dict[str, dict[str, Any]], int]:
    """What doctor finds, by name, and its status."""
    given = {f"HOLDFAST_{name.upper()}": str(value) for name, value in settings.items()}
    loaded = load({"HOLDFAST_STATE": str(state), "HOLDFAST_PORT": "1", **given})
    done = CliRunner().invoke(doctor, ["--json"], obj=loaded, **CONTEXT)
    findings = json.loads(done.stdout)["findings"]
    return {each["what"]: each for each in findings}, done.exit_code


def test_it_says_what_was_chosen_and_what_was_set(state: Path) -> None:
    chosen, status = told(state)
    assert status == 0
    detail = chosen["workers and threads"]["detail"]
    assert "x 4 threads, onnxruntime 1 thread each (" in detail
    assert "set so" not in detail
    set_to, _ = told(state, workers=9, threads=3)
    detail = set_to["workers and threads"]["detail"]
    assert detail.startswith("9 workers x 3 threads, onnxruntime 1 thread each (")
    assert "left out it would be" in detail


def test_it_tells_pinned_models_missing_ones_and_limits(state: Path) -> None:
    found, status = told(state, models="a@1,b", model_limits="b:rows=4,concurrent=2")
    assert status == 0
    assert found["model a"]["detail"].startswith("pinned: a/1, every sha256 right")
    assert found["model a"]["detail"].endswith("(champion is 2)")
    assert found["model b"]["detail"] == "follows its champion"
    limits = found["limits of b"]["detail"]
    assert limits == "4 rows in a request, 2 runs at once in a worker"
    for models in ("a@3", "c"):
        found, status = told(state, models=models)
        assert status == 1
        assert not found[f"model {models[0]}"]["ok"]


def test_it_tells_what_operators_have_unloaded(state: Path) -> None:
    repository = Repository(state / "registry")
    repository.decide("b", loaded=False, set_so=True)
    assert "unloaded" in told(state)[0]["model b"]["detail"]
    repository.decide("b", loaded=True, set_so=True)
    assert "model b" not in told(state)[0]


def test_it_tells_that_the_network_may_call_without_a_token(state: Path) -> None:
    found, status = told(state, host="0.0.0.0")
    assert status == 0
    assert not found["callers"]["ok"]
    assert "no tokens" in found["callers"]["detail"]
    assert told(state)[0]["callers"]["detail"] == "this machine only"


def test_it_tells_when_the_schedule_is_due_and_in_which_zone(state: Path) -> None:
    found, status = told(state, schedule="30 2 * * *", timezone="Asia/Kolkata")
    assert status == 0
    detail = found["schedule"]["detail"]
    assert detail.startswith("30 2 * * * in Asia/Kolkata: ")
    assert detail.count("02:30:00+05:30") == 3
    assert "schedule" not in told(state)[0]


def test_a_file_that_is_not_there_makes_it_fail(state: Path) -> None:
    found, status = told(state, alert_token_file=state / "absent", host="nowhere.invalid")
    assert status == 1
    wrong = {name for name, each in found.items() if not each["ok"] and not each["optional"]}
    assert wrong == {"setting alert_token_file", "setting host"}
    assert "No such file" in found["setting alert_token_file"]["detail"]


def test_a_database_that_does_not_answer_makes_it_fail_without_its_password(state: Path) -> None:
    url = "postgresql://me:secret@127.0.0.1:9/h"
    loaded = load({"HOLDFAST_STATE": str(state), "HOLDFAST_DATABASE_URL": url})
    done = CliRunner().invoke(doctor, ["--json"], obj=loaded, **CONTEXT)
    assert done.exit_code == 1
    assert "secret" not in done.output
    findings = {each["what"]: each for each in json.loads(done.stdout)["findings"]}
    assert not findings["database"]["ok"]
    assert "me:***@127.0.0.1:9/h does not answer: " in findings["database"]["detail"]
    assert "secret" not in CliRunner().invoke(doctor, [], obj=loaded, **CONTEXT).output


def test_it_makes_no_file_by_looking(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "records.sqlite"
    found, status = told(state, database_url=f"sqlite:///{file}")
    assert (status, found["database"]["ok"]) == (0, True)
    assert not file.parent.exists()


def test_it_says_why_a_watcher_is_not_ready(state: Path) -> None:
    pulse = Pulse(2.0)
    pulse.fail(RuntimeError("boom"))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = msgspec.json.encode(pulse.report())
            self.send_response(503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found, status = told(state, watch_port=server.server_port)
        server.shutdown()
    assert status == 0
    assert not found["watcher"]["ok"]
    assert "is not ready: the watcher has not completed a look yet" in found["watcher"]["detail"]
    assert "the last look failed (RuntimeError)" in found["watcher"]["detail"]
