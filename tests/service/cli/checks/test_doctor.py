import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from models.versions.registry import Registry
from monitoring.watching.pulse import Pulse
from service.access import auth
from service.cli import CONTEXT
from service.cli.checks import doctor as module
from service.cli.checks import extras, machine, running
from service.cli.checks.doctor import doctor
from service.cli.checks.machine import check_clock, check_disk, check_packages, check_permission
from service.configuration.settings import load
from service.fleet.overrides import Repository
from tests import bundles
from tests.ops import ROOT
from tests.printed import data_of


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
    findings = data_of(done.stdout)["findings"]
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
    findings = {each["what"]: each for each in data_of(done.stdout)["findings"]}
    assert not findings["database"]["ok"]
    assert "me:***@127.0.0.1:9/h does not answer: " in findings["database"]["detail"]
    assert "secret" not in CliRunner().invoke(doctor, [], obj=loaded, **CONTEXT).output


def test_a_missing_file_of_the_password_is_a_finding_among_others(
    state: Path, tmp_path: Path
) -> None:
    url = f"postgresql://me@127.0.0.1:9/h?password_file={tmp_path}/absent"
    findings, status = told(state, database_url=url)
    assert status == 1
    assert not findings["database"]["ok"]
    assert "the password of the store of records cannot be read" in findings["database"]["detail"]
    assert len(findings) > 5


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


def test_every_fault_comes_with_what_to_do_and_faults_come_first(tmp_path: Path) -> None:
    loaded = load({"HOLDFAST_STATE": str(tmp_path), "HOLDFAST_PORT": "1"})
    done = CliRunner().invoke(doctor, [], obj=loaded, **CONTEXT)
    assert done.exit_code == 1
    assert done.stdout.startswith("WRONG  models: none\n       fix: holdfast demo")
    assert "HOLDFAST_MODE" not in done.stdout
    told = CliRunner().invoke(doctor, ["--all"], obj=loaded, **CONTEXT).stdout
    assert "HOLDFAST_MODE" in told
    found, _ = told_of(tmp_path)
    assert all(each["fix"] for each in found.values() if not each["ok"])


def told_of(state: Path, **settings: Any) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """What doctor finds, and the names of what is wrong."""
    found, status = told(state, **settings)
    wrong = {name for name, each in found.items() if not each["ok"] and not each["optional"]}
    assert bool(wrong) == (status == 1)
    return found, wrong


def test_a_broken_champion_is_named_with_the_way_back(tmp_path: Path) -> None:
    bundles.publish(tmp_path / "registry", "a")
    (tmp_path / "registry/a/1/model.onnx").write_bytes(b"torn")
    found, wrong = told_of(tmp_path)
    assert wrong == {"champion of a"}
    assert "holdfast models rollback a" in found["champion of a"]["fix"]


def test_a_version_to_go_back_to_that_is_broken_is_noted(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    for _ in range(2):
        bundles.publish(registry.root, "a")
    assert registry.aliases("a").previous == 1
    (registry.path("a", 1) / "model.onnx").write_bytes(b"torn")
    found, wrong = told_of(tmp_path)
    assert not wrong
    assert not found["previous of a"]["ok"]


def test_a_file_from_the_future_means_that_the_clock_is_wrong(state: Path, tmp_path: Path) -> None:
    settings = load({"HOLDFAST_STATE": str(state)})
    assert check_clock(settings).ok
    early = check_clock(settings, time.time() - 3600)
    assert not early.ok
    assert "was written" in early.detail
    assert "timedatectl" in early.fix
    empty = load({"HOLDFAST_STATE": str(tmp_path)})
    assert check_clock(empty, time.time() - 3600).ok, "there is nothing to compare with"
    assert not check_clock(empty, 0.0).ok


def test_what_may_not_be_written_is_named(state: Path) -> None:
    settings = load({"HOLDFAST_STATE": str(state)})
    assert check_permission(settings).ok
    registry = state / "registry"
    closed = check_permission(settings, lambda path, mode: path != registry)
    assert not closed.ok
    assert str(registry) in closed.detail
    assert "chown -R" in closed.fix
    assert not check_permission(settings, lambda path, mode: False).ok


def test_a_full_disk_is_wrong(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load({"HOLDFAST_STATE": str(state)})
    assert check_disk(settings).ok
    monkeypatch.setattr(machine, "FREE_BYTES", 1 << 60)
    assert "HOLDFAST_RECORD_BYTES_KEPT" in check_disk(settings).fix


def test_expired_tokens_and_a_file_without_any_are_told(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    auth.create(file, "shop", ("predict",), timedelta(seconds=-1))
    found, wrong = told_of(state, tokens_file=file)
    assert not wrong
    assert found["tokens"]["detail"].endswith("have expired: shop")
    auth.revoke(file, "shop")
    _, wrong = told_of(state, tokens_file=file)
    assert wrong == {"tokens"}


def test_traces_that_go_to_nobody_are_noted(state: Path) -> None:
    found, wrong = told_of(state, trace_endpoint="http://127.0.0.1:9")
    assert not wrong
    assert "nobody listens at http://127.0.0.1:9" in found["telemetry"]["detail"]
    assert told(state)[0]["telemetry"]["ok"]


def test_opentelemetrys_own_variables_are_told_too(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    found, wrong = told_of(state)
    assert not wrong
    assert "nobody listens at http://127.0.0.1:9" in found["telemetry"]["detail"]
    assert found["telemetry"]["fix"].endswith("empty OTEL_EXPORTER_OTLP_ENDPOINT")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    found, wrong = told_of(state)
    assert wrong == {"setting OTEL_EXPORTER_OTLP_PROTOCOL"}
    assert found["setting OTEL_EXPORTER_OTLP_PROTOCOL"]["fix"].startswith("correct OTEL_")
    assert not found["telemetry"]["ok"]


def test_what_another_user_may_not_list_is_named_and_the_other_checks_are_done() -> None:
    """In a process that becomes `nobody`, once everything is imported, where the tests are root."""
    code = (
        "import json, os, pathlib, sys; from service.cli.checks.doctor import find\n"
        "from service.configuration.settings import load\n"
        "settings = load({'HOLDFAST_STATE': sys.argv[1], 'HOLDFAST_PORT': '1'})\n"
        "list(find(settings))\n"
        "jobs = pathlib.Path(sys.argv[1], 'jobs'); jobs.chmod(int(sys.argv[2], 8))\n"
        "os.geteuid() or os.setresuid(65534, 65534, 65534)\n"
        "print(json.dumps([[f.what, f.ok, f.detail] for f in find(settings)]))\n"
        "os.geteuid() == 65534 or jobs.chmod(0o700)\n"
    )
    with tempfile.TemporaryDirectory() as open_folder:
        state = Path(open_folder) / "state"
        bundles.publish(state / "registry", "a")
        (state / "jobs" / "one").mkdir(parents=True)
        if os.geteuid() == 0:
            for path in (Path(open_folder), state, *state.rglob("*")):
                os.chown(path, 65534, 65534)
            os.chown(state / "jobs", 0, 0)
        mode = "700" if os.geteuid() == 0 else "0"
        said = subprocess.run(
            [sys.executable, "-c", code, str(state), mode],
            capture_output=True, text=True, check=True, cwd=ROOT, timeout=120,
        )  # fmt: skip
        found = {what: (ok, detail) for what, ok, detail in json.loads(said.stdout)}
        ok, detail = found["permission"]
        assert not ok
        assert str(state / "jobs") in detail
        assert "jobs/one" not in detail
        assert {"disk", "database", "worker slots", "service", "watcher"} <= set(found)


def test_a_check_that_fails_is_a_finding_and_takes_no_other_along(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {what for what in told(state)[0] if what != "disk"}

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error", "/somewhere")

    monkeypatch.setattr(module, "check_disk", fail)
    found, wrong = told_of(state)
    assert wrong == {"disk"}
    assert "could not be looked at" in found["disk"]["detail"]
    assert "/somewhere" in found["disk"]["detail"]
    assert set(found) == whole | {"disk"}


@pytest.mark.parametrize(
    ("name", "what"), [("service.lock", "lock of the service"), ("slot-0.lock", "worker slots")]
)
def test_a_lock_that_nobody_nameable_holds_is_held_all_the_same(
    name: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles.publish(tmp_path / "registry", "a")
    metrics = load({"HOLDFAST_STATE": str(tmp_path)}).metrics_dir
    metrics.mkdir(parents=True)
    empty = tmp_path / "locks"  # as in a container that does not see the holder
    empty.write_text("")
    monkeypatch.setattr(running, "LOCKS", empty)
    with hold(metrics / name) as process:
        found, wrong = told_of(tmp_path)
        process.kill()
    assert wrong == {what}
    assert "a process of another container" in found[what]["detail"]
    assert "kill" not in found[what]["fix"]


def hold(lock: Path) -> "subprocess.Popen[bytes]":
    """Another process that holds a lock and answers nothing."""
    code = (
        "import sys; from pathlib import Path; from models.base.locks import try_exclusive\n"
        "held = try_exclusive(Path(sys.argv[1])); print(held is not None, flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"True\n"
    return process


@pytest.mark.parametrize(
    ("name", "what"), [("service.lock", "lock of the service"), ("slot-0.lock", "worker slots")]
)
def test_a_process_that_hangs_is_named_by_its_id(name: str, what: str, tmp_path: Path) -> None:
    bundles.publish(tmp_path / "registry", "a")
    metrics = load({"HOLDFAST_STATE": str(tmp_path)}).metrics_dir
    metrics.mkdir(parents=True)
    with hold(metrics / name) as process:
        found, wrong = told_of(tmp_path)
        assert wrong == {what}
        assert str(process.pid) in found[what]["detail"]
        assert f"kill {process.pid}" in found[what]["fix"]
        process.kill()
    assert told_of(tmp_path)[1] == set(), "a lock file that nobody holds is nothing stale"


def test_without_the_train_extra_it_says_what_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "TRAIN_PACKAGES", ("torch", "no_such_package"))
    (finding,) = (each for each in check_packages() if each.what == "training")
    assert (finding.ok, finding.optional) == (False, True)
    assert "(no_such_package) is missing: it only serves and scores" in finding.detail
    assert finding.fix == "pip install 'holdfast[train]'"
