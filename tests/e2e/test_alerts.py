"""What the people on call get, from the real stack through a real Prometheus and Alertmanager."""

from pathlib import Path

import pytest

from monitoring.grafana import dashboard
from tests import ops
from tests.e2e.stack import TRAINS_SECONDS, Stack, running, status_of

MISSING = ops.missing_programs("prometheus", "prometheus-alertmanager")
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


def test_an_attack_alerts_alertmanager_calls_the_watcher_and_robustness_is_evaluated_again(
    stack: Stack, tmp_path: Path
) -> None:
    # The watcher's own drift trigger is put out of reach: the alert alone must start the job.
    stack.settings["HOLDFAST_DRIFT_C"] = "1e300"
    with running(stack):
        token = (stack.state / "run" / "alert_token").read_text()
        alertmanager = ops.render_alertmanager(
            tmp_path / "am", watcher_port=stack.watch_port, token=token
        )
        port = ops.free_port()
        prometheus = ops.render_prometheus(
            tmp_path / "prom",
            service_port=stack.port,
            watcher_port=stack.watch_port,
            alertmanager_port=port,
        )
        with (
            ops.start_alertmanager(alertmanager, port=port),
            ops.start_prometheus(prometheus) as prometheus_url,
        ):
            stack.traffic("--seconds", "10", "--rate", "60", "--labels")
            assert "HoldfastPerturbationRate" not in ops.firing(prometheus_url)
            with stack.sending("--shift", "attack:0.2", "--rate", "60"):
                job = stack.until(
                    lambda: next(iter(stack.jobs()), None), "the alarm of attacks started a job"
                )
                assert job["kind"] == "evaluate_robustness"
                assert job["source"] == "perturbation", "the alert is an echo of its alarm"
                done = stack.until(
                    lambda: next((j for j in stack.jobs() if j["state"] == "done"), None),
                    "the evaluation is done",
                    seconds=TRAINS_SECONDS,
                )
                assert done["outcome"] == "passed"
                assert done["challenger"] is None
                stack.until(
                    lambda: stack.metric(
                        "holdfast_alerts_received_total", action="evaluate_robustness"
                    ),
                    "Alertmanager has told the watcher",
                )
                assert len(stack.jobs()) == 1, "once for an alarm, however often it is told"

                def unanswered() -> list[str]:
                    return [
                        e
                        for e in dashboard.expressions(model="digits", rate_interval="60s")
                        if not ops.ask(prometheus_url, e)
                    ]

                stack.until(lambda: not unanswered(), "every panel has an answer")


def test_alerts_without_the_token_are_refused_and_repeats_start_nothing(stack: Stack) -> None:
    with running(stack):
        url = f"{stack.watch_url}/alerts"
        alert = {
            "status": "firing",
            "labels": {"alertname": "HoldfastDrift", "action": "evaluate", "model": "digits"},
            "fingerprint": "f1",
            "startsAt": "2026-01-01T00:00:00.000Z",
        }
        payload = {"version": "4", "groupKey": "g", "truncatedAlerts": 0, "alerts": [alert]}
        assert status_of(url, payload)[0] == 401
        token = (stack.state / "run" / "alert_token").read_text()
        secret = {"Authorization": f"Bearer {token}"}
        resolved = payload | {"alerts": [alert | {"status": "resolved"}]}
        assert decisions(url, resolved, secret) == ["resolved"]
        assert decisions(url, payload, secret) == ["started"]
        assert decisions(url, payload, secret) == ["already_handled"]
        other = payload | {"alerts": [alert | {"fingerprint": "f2"}]}
        assert decisions(url, other, secret)[0] in ("already_running", "cool_down")
        for bad in (payload | {"version": "3"}, {"version": "4"}, [], payload | {"alerts": [{}]}):
            status, told = status_of(url, bad, secret)
            assert status == 400
            assert told["detail"]
        assert len(stack.jobs()) == 1


def decisions(url: str, payload: object, headers: dict[str, str]) -> list[str]:
    status, told = status_of(url, payload, headers)
    assert status == 202
    return [alert["decision"] for alert in told["alerts"]]
