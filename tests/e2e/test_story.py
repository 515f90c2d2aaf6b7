"""The main job, end to end, as the README tells it: real processes, real ports, no mock."""

import json
import signal
from typing import Any

import numpy as np

from models.evaluate import right
from models.registry import Registry
from models.runner import Runner
from service.cli.traffic import shifted_rows
from service.settings import load
from tests.e2e.stack import Stack, fetch, running, until

RETRAINED = ("promoted", "refused", "rolled_back", "failed")


def waits(stack: Stack) -> dict[str, Any] | None:
    return next((j for j in stack.jobs() if j["state"] == "waiting"), None)


def accuracy_of(stack: Stack, version: int, shift: str, part: str) -> float:
    """Accuracy of a version on the rows that `holdfast traffic` would send."""
    settings = load(stack.env)
    rows = shifted_rows(settings, "digits", shift, 1.0, part, np.random.default_rng(0))
    runner = Runner(Registry(settings.registry_dir).open("digits", str(version)))
    return float(right(runner, rows).mean())


def finished(stack: Stack, *outcomes: str) -> dict[str, Any] | None:
    return next((j for j in stack.jobs() if j["outcome"] in outcomes), None)


def test_drift_is_noticed_explained_trained_for_and_replaced_without_a_failed_request(
    stack: Stack,
) -> None:
    with running(stack):
        clean = stack.traffic("--seconds", "10", "--rate", "60", "--labels")
        assert clean["failed"] == 0
        watched = until(
            lambda: (w := stack.watched())["requests"] == clean["sent"] and w,
            seconds=10,
            what="the watcher has weighed every request",
        )
        assert watched["alarm"] is None
        observed = watched["observed_accuracy"]
        assert observed["low"] - 0.03 <= watched["expected_accuracy"] <= observed["high"] + 0.03
        assert stack.jobs() == []

        # A third of the held-out digits stays unseen, to judge the retrained version on.
        shifted = [
            stack.start(
                "traffic", "--shift", "rotate:25", "--labels", "--rate", "20", "--seconds", "300",
                "--slice", part, "--connections", "1", "--json",
            )
            for part in ("1/3", "2/3")
        ]  # fmt: skip
        alarm = until(lambda: stack.watched()["alarm"], seconds=30, what="the alarm")
        moved = (
            "energy",
            "feature_distance",
            "gradient",
            "grain",
            "pixel_distance",
            "mean",
            "class",
        )
        assert alarm["channel"] in moved
        assert alarm["direction"] in alarm["words"] or "share" in alarm["words"]
        assert stack.metric("holdfast_drift_alarm", model="digits") == 1
        job = until(lambda: finished(stack, *RETRAINED), seconds=120, what="the loop has retrained")
        assert job["outcome"] == "promoted", job["detail"]
        assert len(job["checks"]) >= 10
        assert all(check["passed"] and check["detail"] for check in job["checks"])
        for sender in shifted:
            sender.send_signal(signal.SIGINT)  # Ctrl-C: it stops and sums up
            told, errors = sender.communicate(timeout=30)
            assert sender.returncode == 0, errors
            assert json.loads(told)["failed"] == 0

        unseen = ("--shift", "rotate:25", "--slice", "0/3")
        after = stack.traffic(*unseen, "--labels", "--rate", "60", "--seconds", "10")
        assert after["failed"] == 0
        assert after["versions"] == {"2": after["sent"]}
        before = accuracy_of(stack, 1, "rotate:25", "0/3")
        assert after["accuracy"] >= before + 0.10
        assert after["accuracy"] >= job["evaluation"]["window"]["value"] + 0.10
        watched = stack.watched()
        assert watched["version"] == 2
        assert watched["alarm"] is None
        assert stack.metric("holdfast_drift_alarm", model="digits") == 0
        assert stack.metric("holdfast_lifecycle_runs_total", outcome="promoted") == 1

    audit = stack.json("models", "show", "digits")["audit"]
    assert [(a["action"], a["version"]) for a in audit] == [
        ("publish", 1), ("promote", 1), ("publish", 2), ("promote", 2),
    ]  # fmt: skip


def test_a_worse_challenger_is_refused_and_the_failing_checks_are_named(stack: Stack) -> None:
    spoiled = '{"shuffle_labels": true, "recipe": {"max_steps": 1}}'
    with running(stack):
        stack.cli("jobs", "start", "digits", "--kind", "retrain", "--options", spoiled)
        job = until(lambda: finished(stack, *RETRAINED), seconds=90, what="the job is done")
        assert job["outcome"] == "refused"
        failed = {check["name"] for check in job["checks"] if not check["passed"]}
        assert {"clean_accuracy", "robust_accuracy", "robust_floor"} <= failed
        assert all(name in job["detail"] for name in failed)
        assert [row["aliases"] for row in stack.json("models", "list")] == [["champion"], []]
        assert stack.metric("holdfast_gate_passed", check="clean_accuracy") == 0
        answer = stack.traffic("--seconds", "2")
        assert answer["versions"] == {"1": answer["sent"]}


def test_manual_mode_waits_for_a_person_and_a_rejection_keeps_the_champion(stack: Stack) -> None:
    # Fine-tuning a little passes the gates; without a drift window there is no window gate.
    stack.settings["HOLDFAST_MODE"] = "manual"
    options = '{"recipe": {"epochs": 2, "learning_rate": 0.0001}}'
    with running(stack):
        for answer, outcome in (("reject", "rejected"), ("approve", "promoted")):
            stack.cli("jobs", "start", "digits", "--kind", "retrain", "--options", options)
            waiting = until(lambda: waits(stack), seconds=90, what="a job waits for approval")
            stack.cli("jobs", answer, waiting["id"])
            job = until(
                lambda asked=waiting["id"]: next(
                    (j for j in stack.jobs() if j["id"] == asked and j["state"] == "done"), None
                ),
                seconds=60,
                what=outcome,
            )
            assert job["outcome"] == outcome
        again = stack.cli("jobs", "approve", job["id"], check=False)
        assert again.returncode == 1
        assert "does not wait" in again.stderr
    assert stack.json("models", "list")[2]["aliases"] == ["champion"]


def test_a_champion_that_is_worse_on_live_labels_is_rolled_back_in_its_probation(
    stack: Stack,
) -> None:
    stack.settings["HOLDFAST_PROBATION_SECONDS"] = "40"
    options = '{"recipe": {"epochs": 1, "learning_rate": 0.0001}}'
    with running(stack):
        stack.traffic("--seconds", "5", "--rate", "40", "--labels")
        stack.cli("jobs", "start", "digits", "--kind", "retrain", "--options", options)
        until(lambda: stack.jobs()[0]["stage"] == "probation", seconds=90, what="probation")
        until(lambda: ask(stack)["version"] == 2, seconds=10, what="version 2 answers")
        for _ in range(150):
            told = ask(stack)
            wrong = str((told["predictions"][0]["index"] + 1) % 10)
            fetch(f"{stack.url}/feedback", {"id": told["id"], "label": wrong})
        job = until(lambda: finished(stack, "rolled_back"), seconds=40, what="the rollback")
        assert "live accuracy 0.0%" in job["detail"]
        until(lambda: ask(stack)["version"] == 1, seconds=10, what="version 1 answers again")
    audit = stack.json("models", "show", "digits")["audit"]
    assert [a["action"] for a in audit][-2:] == ["promote", "rollback"]


def ask(stack: Stack) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(
        fetch(f"{stack.url}/predict", {"instances": [[[[8.0] * 8] * 8]]})
    )
    return told
