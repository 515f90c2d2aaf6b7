"""The main job, end to end, as the README tells it: real processes, real ports, no mock."""

import json
from typing import Any

import numpy as np

from models.evaluation.subject import right
from models.versions.registry import Registry
from models.versions.runner import Runner
from service.cli.traffic.command import shifted_rows
from service.configuration.settings import load
from tests.e2e.stack import TRAINS_SECONDS, Stack, fetch, running

PLAIN = [[[[8.0] * 8] * 8]]
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


def replaced(stack: Stack) -> bool:
    """Whether both senders have had answers of version 2: each asks 20 times a second."""
    rows = {"version": "2", "channel": "class"}  # of the channels, one counts every row once
    return (stack.metric("holdfast_cell_observations_total", stack.url, **rows) or 0.0) >= 40


def test_drift_is_noticed_explained_trained_for_and_replaced_without_a_failed_request(
    stack: Stack,
) -> None:
    with running(stack):
        # No held-out row comes twice: the same few again and again are a drift in themselves.
        clean = stack.traffic("--seconds", "5", "--rate", "60", "--labels")
        assert clean["failed"] == 0
        stack.until(
            lambda: stack.watched()["requests"] >= clean["sent"],
            "the watcher has weighed every request",
        )
        watched = stack.watched()
        assert watched["requests"] == clean["sent"]
        assert watched["alarm"] is None
        observed = watched["observed_accuracy"]
        assert observed["low"] - 0.03 <= watched["expected_accuracy"] <= observed["high"] + 0.03
        assert stack.jobs() == []

        # A third of the held-out digits stays unseen, to judge the retrained version on.
        shifted = ("--shift", "rotate:25", "--labels", "--rate", "20", "--connections", "1")
        with (
            stack.sending(*shifted, "--slice", "1/3") as one,
            stack.sending(*shifted, "--slice", "2/3") as other,
        ):
            alarm = stack.until(lambda: stack.watched()["alarm"], "the alarm")
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
            stack.until(
                lambda: stack.metric("holdfast_drift_alarm", model="digits") == 1, "the gauge"
            )
            # Both go on until the new version has answered them: the swap costs no request.
            stack.until(
                lambda: replaced(stack) or finished(stack, *RETRAINED),
                "the loop has retrained",
                seconds=TRAINS_SECONDS,
            )
            ended = [one.end(), other.end()]
        job = stack.until(lambda: finished(stack, *RETRAINED), "the probation is over")
        assert job["outcome"] == "promoted", job["detail"]
        assert len(job["checks"]) >= 10
        assert all(check["verdict"] != "fail" and check["detail"] for check in job["checks"])
        assert all({*summary["versions"]} == {"1", "2"} for summary in ended)

        unseen = ("--shift", "rotate:25", "--slice", "0/3")  # each of its 120 rows once
        after = stack.traffic(*unseen, "--labels", "--rate", "60", "--seconds", "2")
        assert after["failed"] == 0
        assert after["versions"] == {"2": after["sent"]}
        before = accuracy_of(stack, 1, "rotate:25", "0/3")
        assert after["accuracy"] >= before + 0.10
        assert after["accuracy"] >= job["evaluation"]["window"]["value"] + 0.10
        stack.until_looked()
        watched = stack.watched()
        assert watched["version"] == 2
        assert watched["alarm"] is None
        assert stack.metric("holdfast_drift_alarm", model="digits") == 0
        assert stack.metric("holdfast_lifecycle_runs_total", outcome="promoted") == 1

    audit = stack.json("models", "show", "digits")["audit"]
    assert [(a["action"], a["version"]) for a in audit] == [
        ("publish", 1), ("promote", 1), ("publish", 2), ("compare", 2), ("promote", 2),
    ]  # fmt: skip


def test_a_worse_challenger_is_refused_and_the_failing_checks_are_named(stack: Stack) -> None:
    spoiled = '{"shuffle_labels": true, "recipe": {"max_steps": 1}}'
    with running(stack):
        stack.cli("jobs", "start", "digits", "--kind", "retrain", "--options", spoiled)
        job = stack.until(
            lambda: finished(stack, *RETRAINED), "the job is done", seconds=TRAINS_SECONDS
        )
        assert job["outcome"] == "refused"
        failed = {check["name"] for check in job["checks"] if check["verdict"] == "fail"}
        assert {"clean_accuracy", "robust_accuracy", "robust_floor"} <= failed
        assert all(name in job["detail"] for name in failed)
        assert [row["aliases"] for row in stack.json("models", "list")] == [["champion"], []]
        failed_clean = {"check": "clean_accuracy", "verdict": "fail"}
        assert stack.metric("holdfast_gate_verdict", **failed_clean) == 1
        answer = stack.traffic("--seconds", "2")
        assert answer["versions"] == {"1": answer["sent"]}


# Fine-tuning a little passes the gates; without a drift window there is no window gate.
GENTLY = '{"recipe": {"epochs": 1, "learning_rate": 0.0001}}'


def start_and_wait(stack: Stack) -> dict[str, Any]:
    """A retraining that has passed its gates and waits for a person."""
    stack.cli("jobs", "start", "digits", "--kind", "retrain", "--options", GENTLY)
    job = stack.until(
        lambda: waits(stack) or finished(stack, *RETRAINED), "the gates", seconds=TRAINS_SECONDS
    )
    assert job["state"] == "waiting", job["detail"]
    return job


def test_manual_mode_waits_for_a_person_and_a_rejection_keeps_the_champion(stack: Stack) -> None:
    stack.settings["HOLDFAST_MODE"] = "manual"
    with running(stack):
        stack.cli("jobs", "reject", start_and_wait(stack)["id"])
        job = stack.until(lambda: finished(stack, "rejected"), "the job is done")
        again = stack.cli("jobs", "approve", job["id"], check=False)
        assert again.returncode == 1
        assert "was answered already" in again.stderr
    assert [row["aliases"] for row in stack.json("models", "list")] == [["champion"], []]


def test_an_approved_champion_that_is_worse_on_live_labels_is_rolled_back_in_its_probation(
    stack: Stack,
) -> None:
    # The rollback ends the probation; without one it would end long after the labels are there.
    stack.settings |= {"HOLDFAST_MODE": "manual", "HOLDFAST_PROBATION_SECONDS": "600"}
    stack.settings |= {"HOLDFAST_SHADOW_SECONDS": "0"}
    noise = np.random.default_rng(3).integers(0, 17, (1000, 1, 8, 8)).tolist()
    with running(stack):
        stack.traffic("--seconds", "5", "--rate", "40", "--labels")
        before = answers(stack, noise)
        stack.cli("jobs", "approve", start_and_wait(stack)["id"])
        stack.until(lambda: stack.jobs()[0]["stage"] in ("probation", "done"), "probation")
        assert stack.jobs()[0]["stage"] == "probation", stack.jobs()[0]["detail"]
        assert stack.json("models", "list")[1]["aliases"] == ["champion"]
        again = stack.cli("jobs", "approve", stack.jobs()[0]["id"], check=False)
        assert again.returncode == 1
        assert "was answered already" in again.stderr
        stack.until(lambda: ask(stack)["version"] == 2, "version 2 answers")
        after = answers(stack, noise)
        moved = [row for row, name in enumerate(after) if name != before[row]]
        assert moved, "the versions differ nowhere"

        def label() -> dict[str, Any] | None:
            """Send again where the versions differ; the one of before is right."""
            request = ask(stack, [noise[row] for row in moved])["id"]
            truth = [before[row] for row in moved]
            labels = [{"id": f"{request}/{row}", "label": name} for row, name in enumerate(truth)]
            fetch(f"{stack.url}/feedback", labels)
            return finished(stack, *RETRAINED)

        job = stack.until(label, "the rollback")
        assert job["outcome"] == "rolled_back", job["detail"]
        assert "worse than the champion on the same requests" in job["detail"]
        stack.until(lambda: ask(stack)["version"] == 1, "version 1 answers again")
    audit = stack.json("models", "show", "digits")["audit"]
    assert [a["action"] for a in audit][-2:] == ["promote", "rollback"]


def answers(stack: Stack, instances: list[Any]) -> list[str]:
    """The label of each of many rows."""
    parts = [instances[k : k + 200] for k in range(0, len(instances), 200)]
    return [told["label"] for part in parts for told in ask(stack, part)["predictions"]]


def ask(stack: Stack, instances: object = PLAIN) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(fetch(f"{stack.url}/predict", {"instances": instances}))
    return told
