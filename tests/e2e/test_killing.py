"""Nothing that dies takes a prediction, a version or a job with it."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.stack import TRAINS_SECONDS, Stack, running
from tests.processes import is_over


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


def models_loaded(stack: Stack) -> int:
    """How many workers have said that they serve."""
    return sum(line.get("event") == "model_loaded" for line in stack.log())


def answered(stack: Stack) -> float:
    """Predictions of all workers, the dead ones too."""
    return stack.metric("holdfast_predictions_total", stack.url) or 0.0


def test_requests_go_on_while_workers_are_killed(stack: Stack) -> None:
    with running(stack), stack.sending("--rate", "60") as sending:
        for _ in range(4):
            before = answered(stack)
            stack.until(lambda before=before: answered(stack) >= before + 60, "requests go on")
            loaded, old = models_loaded(stack), workers(stack)
            os.kill(old[0].pid, signal.SIGKILL)
            # Only what one worker held is sent again: the next one dies when two serve again.
            stack.until(
                lambda loaded=loaded: models_loaded(stack) > loaded, "a successor has its model"
            )
        before = answered(stack)
        stack.until(lambda: answered(stack) >= before + 60, "requests go on after the last")
        # What a killed worker held is sent again on a new connection, as HTTP clients do.
        summary = sending.end()  # none failed
        assert summary["sent"] >= 5 * 60
        assert len(workers(stack)) == 2


def in_training(stack: Stack, steps_before: int = 0) -> psutil.Process | None:
    """The process that trains, once it has made steps of its own."""
    if steps_made(stack) <= steps_before:
        return None
    return next(iter(processes(stack, "monitoring.loop.child train")), None)


def steps_made(stack: Stack) -> int:
    """Lines of progress of all trainings of the loop."""
    return sum(path.read_text().count("loss ") for path in stack.state.glob("jobs/*/log"))


def watchers(stack: Stack) -> dict[str, list[psutil.Process]]:
    """The watcher's processes: its master, its worker, both."""
    both = processes(stack, "service.watch_conf")
    masters = [p for p in both if p.parent() not in both]
    return {"both": both, "master": masters, "worker": [p for p in both if p not in masters]}


def test_the_watcher_killed_three_times_in_the_middle_of_training_finishes_the_job_once(
    stack: Stack,
) -> None:
    with running(stack):
        options = '{"recipe": {"epochs": 6, "learning_rate": 0.0001}}'
        stack.cli("jobs", "start", "digits", "--kind", "retrain", "--options", options)
        steps = 0
        for who in ("master", "worker", "both"):
            training = stack.until(
                lambda steps=steps: in_training(stack, steps), "training", seconds=TRAINS_SECONDS
            )
            steps = steps_made(stack)
            for process in watchers(stack)[who]:
                process.kill()
            stack.until(lambda training=training: is_over(training), "the training died, too")

        def done() -> dict[str, Any] | None:
            try:
                return next((j for j in stack.jobs() if j["state"] == "done"), None)
            except OSError:
                return None

        job = stack.until(done, "the job is finished by the next watcher", seconds=TRAINS_SECONDS)
        # Without labelled rows nothing shows that it is better: a person may promote it.
        assert job["outcome"] == "inconclusive", job
        assert "window_accuracy: no held-out labelled rows" in job["detail"]
        assert len(stack.jobs()) == 1
    listed = stack.json("models", "list")
    assert [row["version"] for row in listed] == [1, 2]
    audit = stack.json("models", "show", "digits")["audit"]
    assert [a["action"] for a in audit] == ["publish", "promote", "publish", "compare"]
    assert not list((stack.state / "registry").glob("*/.staging-*"))


def damaged_copy(stack: Stack, version: int, damage: str) -> Path:
    """A copy of version 1 with a damaged graph, made champion behind our back."""
    folder = stack.state / "registry" / "digits"
    shutil.copytree(folder / "1", folder / str(version))
    model = folder / str(version) / "model.onnx"
    data = bytearray(model.read_bytes())
    if damage == "truncated":
        data = data[: len(data) // 2]
    else:
        data[len(data) // 2] ^= 1
    model.write_bytes(bytes(data))
    make_champion(stack, version)
    return model


def make_champion(stack: Stack, version: int) -> None:
    """Move the alias by hand, whole: who reads it sees the old one or the new one."""
    folder = stack.state / "registry" / "digits"
    temporary = folder / ".aliases"
    temporary.write_text(json.dumps({"champion": version, "challenger": None, "previous": None}))
    temporary.replace(folder / "aliases.json")


def refused_by_workers(stack: Stack, version: int) -> bool:
    """Whether both workers have said that they do not serve this version."""
    lines = [line for line in stack.log() if line.get("event") == "model_refused"]
    said = [str(line.get("reason", "")) for line in lines]
    return sum(f"digits/{version}" in text and "sha256" in text for text in said) >= 2


def test_a_damaged_champion_is_refused_by_name_and_the_old_one_serves_on(stack: Stack) -> None:
    with running(stack):
        for version, damage in ((2, "truncated"), (3, "changed byte")):
            damaged_copy(stack, version, damage)
            stack.until(
                lambda version=version: refused_by_workers(stack, version), "the refusal is told"
            )
            assert (stack.metric("holdfast_model_reload_failures_total", stack.url) or 0) > 0
            answered = stack.traffic("--seconds", "2")
            assert answered["versions"] == {"1": answered["sent"]}
            refusals = [line for line in stack.log() if "sha256" in str(line.get("reason", ""))]
            assert "model.onnx" in refusals[-1]["reason"]
            verify = stack.cli("models", "verify", "digits", str(version), check=False)
            assert verify.returncode == 1
            assert "sha256 of model.onnx" in verify.stdout
            make_champion(stack, 1)


def test_up_stops_on_ctrl_c_leaves_no_process_and_starts_again_without_training(
    stack: Stack,
) -> None:
    with running(stack) as first:
        assert first.poll() is None
    assert first.returncode == 0
    stack.until(lambda: not processes(stack, "service"), "no process is left")
    with running(stack):
        assert stack.traffic("--seconds", "1")["failed"] == 0
    assert "no model yet" not in (stack.state / "up.log").read_text()
    assert [row["version"] for row in stack.json("models", "list")] == [1]


def test_a_state_or_a_port_that_is_taken_is_named_before_anything_is_started(
    stack: Stack, tmp_path: Path
) -> None:
    other = Stack(tmp_path / "other", port=stack.port)
    with running(stack):
        here, there = stack.cli("up", check=False), other.cli("up", check=False)
    assert (here.returncode, there.returncode) == (1, 1)
    assert "another service runs on this state directory" in here.stderr
    assert f"127.0.0.1:{stack.port}" in there.stderr
    assert "HOLDFAST_PORT" in there.stderr
    assert not (other.state / "registry").exists()
