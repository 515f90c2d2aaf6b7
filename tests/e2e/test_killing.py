"""Nothing that dies takes a prediction, a version or a job with it."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.stack import Stack, running, until


def processes(stack: Stack, *words: str) -> list[psutil.Process]:
    """Processes of this stack whose command line holds all the words."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if all(word in line for word in words):
            try:
                if process.environ().get("HOLDFAST_STATE") == str(stack.state):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
    return found


def workers(stack: Stack) -> list[psutil.Process]:
    """The service's gunicorn workers: children of the process that serves."""
    serving = processes(stack, "service.gunicorn_conf")
    roots = [p for p in serving if p.parent() not in serving]
    return [child for root in roots for child in root.children()]


def test_requests_go_on_while_workers_are_killed(stack: Stack) -> None:
    with running(stack):
        sending = stack.start("traffic", "--rate", "60", "--seconds", "15", "--json")
        for _ in range(4):
            time.sleep(2)
            victim = workers(stack)[0]
            os.kill(victim.pid, signal.SIGKILL)
        told, errors = sending.communicate(timeout=60)
        # What a killed worker held is sent again on a new connection, as HTTP clients do.
        assert sending.returncode == 0, errors
        summary = json.loads(told)
        assert summary["failed"] == 0
        assert summary["sent"] >= 60 * 15 * 0.9
        assert len(workers(stack)) == 2


def test_the_watcher_killed_in_the_middle_of_training_finishes_the_job_once(
    stack: Stack,
) -> None:
    with running(stack):
        options = '{"recipe": {"epochs": 12, "learning_rate": 0.0001}}'
        stack.cli("jobs", "start", "digits", "--kind", "retrain", "--options", options)
        until(lambda: processes(stack, "monitoring.child train"), seconds=60, what="training")
        time.sleep(2)
        for process in processes(stack, "service.watch_conf"):
            process.kill()
        until(
            lambda: not processes(stack, "monitoring.child train"),
            seconds=5,
            what="the training died with its watcher",
        )

        def done() -> dict[str, Any] | None:
            try:
                return next((j for j in stack.jobs() if j["state"] == "done"), None)
            except OSError:
                return None

        job = until(done, seconds=120, what="the job is finished by the next watcher")
        assert job["outcome"] == "promoted", job
        assert len(stack.jobs()) == 1
    listed = stack.json("models", "list")
    assert [row["version"] for row in listed] == [1, 2]
    audit = stack.json("models", "show", "digits")["audit"]
    assert [a["action"] for a in audit] == ["publish", "promote", "publish", "promote"]


def damaged_copy(stack: Stack, damage: str) -> Path:
    """Version 2: a copy of version 1 with a damaged graph, made champion behind our back."""
    folder = stack.state / "registry" / "digits"
    shutil.copytree(folder / "1", folder / "2")
    model = folder / "2" / "model.onnx"
    data = bytearray(model.read_bytes())
    if damage == "truncated":
        data = data[: len(data) // 2]
    else:
        data[len(data) // 2] ^= 1
    model.write_bytes(bytes(data))
    aliases = {"champion": 2, "challenger": None, "previous": 1}
    temporary = folder / ".aliases"
    temporary.write_text(json.dumps(aliases))
    temporary.replace(folder / "aliases.json")
    return model


def test_a_damaged_champion_is_refused_by_name_and_the_old_one_serves_on(stack: Stack) -> None:
    with running(stack):
        for damage in ("truncated", "changed byte"):
            failures = stack.metric("holdfast_model_reload_failures_total", stack.url) or 0
            damaged_copy(stack, damage)
            until(
                lambda before=failures: (
                    (stack.metric("holdfast_model_reload_failures_total", stack.url) or 0) > before
                ),
                seconds=15,
                what="the refusal is counted",
            )
            answered = stack.traffic("--seconds", "2")
            assert answered["versions"] == {"1": answered["sent"]}
            refusals = [line for line in stack.log() if "sha256" in str(line.get("error", ""))]
            assert refusals
            assert "model.onnx" in refusals[-1]["error"]
            verify = stack.cli("models", "verify", "digits", "2", check=False)
            assert verify.returncode == 1
            assert "sha256 of model.onnx" in verify.stdout
            folder = stack.state / "registry" / "digits"
            (folder / "aliases.json").write_text('{"champion":1,"challenger":null,"previous":null}')
            shutil.rmtree(folder / "2")


def test_up_stops_on_ctrl_c_leaves_no_process_and_starts_again_within_seconds(
    stack: Stack,
) -> None:
    with running(stack) as first:
        assert first.poll() is None
    assert first.returncode == 0
    until(lambda: not processes(stack, "service"), seconds=10, what="no process is left")
    started = time.monotonic()
    with running(stack):
        assert time.monotonic() - started < 30
        assert stack.traffic("--seconds", "1")["failed"] == 0


def test_a_port_that_is_taken_is_named_before_anything_is_started(stack: Stack) -> None:
    with running(stack):
        second = stack.cli("up", check=False)
    assert second.returncode == 1
    assert f"127.0.0.1:{stack.port}" in second.stderr
    assert "HOLDFAST_PORT" in second.stderr
