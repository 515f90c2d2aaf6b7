"""A night on call with the real programs, once: what fires, what is told, what runbooks say to do.

`holdfast up` in manual mode, real Prometheus and Alertmanager with the shipped rules and routes.
The world turns while labels come: drift, then harm; the loop evaluates, retrains, and waits for a
person. Beside it a challenger was refused, a champion cannot be loaded, and somebody attacks. Every
panel and every query of a runbook is asked, every command of a runbook run, and who was told of the
harm follows the alert's link and approves.
"""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from monitoring.grafana import dashboard
from tests import ops
from tests.chromium import Browser, find_chromium
from tests.e2e.stack import TRAINS_SECONDS, Stack, running
from tests.monitoring.test_runbooks import PAGES, blocks, commands
from tests.people import People, receiving

MISSING = ops.missing_programs("prometheus", "prometheus-alertmanager", "curl")
if find_chromium() is None:
    MISSING.append("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
SPOILED = '{"shuffle_labels": true, "recipe": {"max_steps": 1}}'
TURNED = ("--shift", "rotate:25", "--labels", "--rate", "15", "--connections", "1")
ATTACK = ("--shift", "attack:0.2", "--rate", "10", "--connections", "1")
# What must be seen in this night, by the panels' own metrics: they are not merely there.
SPEAKS = {
    "the alarm of drift": 'holdfast_drift_alarm{model="digits"} == 1',
    "the alarm of harm": 'holdfast_harm_alarm{model="digits"} == 1',
    "flagged inputs": 'holdfast:flagged_ratio:5m{kind="perturbation"} > 0.01',
    "a gate that failed": 'holdfast_gate_verdict{verdict="fail"} == 1',
    "a refused challenger": 'holdfast_lifecycle_runs_total{outcome="refused"} >= 1',
    "an approval that waits": 'holdfast_job_stage_since_timestamp_seconds{stage="approval"} > 0',
    "a failed load": "increase(holdfast_model_reload_failures_total[10m]) > 0",
    "alerts that arrived": "sum(holdfast_alerts_received_total) >= 1",
}
# These change something; they are run one after the other, when their time has come.
ACTS = ("drift accept", "models hold", "models release", "models rollback")
# The full suite on all rows takes an hour; on some of them it goes through the same steps.
SHORTER = {"evaluate": ("--limit", "40")}
BUTTON = "[...document.querySelectorAll('button')].find((e) => e.innerText.includes({!r}))"


@dataclass
class Night:
    """What was seen: answers by question, results by command, and what people were told."""

    stack: Stack
    people: People
    url: str
    unheard: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)

    def here(self, text: str) -> str:
        """The text with this stack's addresses."""
        text = text.replace("127.0.0.1:8080", f"127.0.0.1:{self.stack.port}")
        return text.replace("127.0.0.1:9108", f"127.0.0.1:{self.stack.watch_port}")

    def run(self, line: str, folder: Path) -> None:
        """Run a line of a runbook as it stands there, at this stack's addresses."""
        self.ran.add(line)
        program, *words = shlex.split(line)
        here = [self.here(word) for word in words]
        if program == "holdfast":
            done = self.stack.cli(*here, *SHORTER.get(here[0], ()), check=False)
        elif program == "python":  # it would write over the committed rules
            done = _call([sys.executable, *here, "--out", str(folder)], ops.ROOT)
        else:
            # The status of the answer is an answer, too: /readyz says 503 and why.
            done = _call([program, *here], folder)
        if done.returncode or not done.stdout.strip():
            self.failed[line] = f"{done.returncode}: {done.stdout[-300:]}{done.stderr[-300:]}"

    def listen(self) -> set[str]:
        """Ask what had no answer so far; what still has none."""
        self.unheard = {each for each in self.unheard if not ops.ask(self.url, each)}
        return self.unheard

    def act(self, name: str, folder: Path) -> None:
        """Run the lines of runbooks that do this."""
        for line in _lines():
            if line.removeprefix("holdfast ").startswith(name):
                self.run(line, folder)


def _call(command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=TRAINS_SECONDS
    )


def _lines() -> list[str]:
    return list(dict.fromkeys(line for page in PAGES for line in commands(page)))


@contextmanager
def _prometheus(stack: Stack, people: People, folder: Path) -> Iterator[str]:
    port = ops.free_port()
    with receiving(people) as people_url:
        alertmanager = ops.render_alertmanager(
            folder / "am",
            watcher_port=stack.watch_port,
            token=(stack.state / "run" / "alert_token").read_text(),
            people_url=people_url,
        )
        prometheus = ops.render_prometheus(
            folder / "prom",
            service_port=stack.port,
            watcher_port=stack.watch_port,
            alertmanager_port=port,
        )
        with (
            ops.start_alertmanager(alertmanager, port=port),
            ops.start_prometheus(prometheus) as url,
        ):
            yield url


@contextmanager
def _champion_that_cannot_be_loaded(stack: Stack) -> Iterator[None]:
    """The alias names version 2, a file of which is torn; then all is as it was."""
    home = stack.state / "registry" / "digits"
    model, alias = home / "2" / "model.onnx", home / "aliases.json"
    whole, before = model.read_bytes(), alias.read_bytes()
    model.write_bytes(whole[:1000])
    alias.write_text(json.dumps(json.loads(before) | {"champion": 2}))
    try:
        yield
    finally:
        alias.write_bytes(before)
        model.write_bytes(whole)


@pytest.fixture(scope="module")
def night(trained_state: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    folder = tmp_path_factory.mktemp("night")
    shutil.copytree(trained_state, folder / "state")
    stack, people = Stack(folder / "state"), People()
    stack.settings |= {"HOLDFAST_MODE": "manual"}
    with running(stack), _prometheus(stack, people, folder) as url, ExitStack() as traffic:
        made = Night(stack, people, url)
        panels = set(dashboard.expressions(model="digits", rate_interval="60s"))
        made.unheard = panels | set(SPEAKS.values())
        stack.cli("jobs", "start", "digits", "--kind", "retrain", "--options", SPOILED)
        _until_job(stack, "outcome", "refused")
        stack.until(lambda: stack.metric("holdfast_drift_alarm") is not None, "it watches")
        with _champion_that_cannot_be_loaded(stack):
            _until_told(made, "HoldfastReloadFailing", "firing")
            made.listen()
        turned = traffic.enter_context(stack.sending(*TURNED, "--slice", "0/2"))
        _until_told(made, "HoldfastDrift", "firing")
        _until_told(made, "HoldfastObservedAccuracyLow", "firing")
        job = _until_job(stack, "state", "waiting")
        made.listen()
        with stack.sending(*ATTACK) as attack:
            stack.until(lambda: not made.listen(), "all is heard", seconds=TRAINS_SECONDS)
            attack.end()
        for line in _lines():
            if not line.removeprefix("holdfast ").startswith(ACTS):
                made.run(line, folder)
        made.act("models hold", folder)
        made.act("models release", folder)
        _approve_by_the_alerts_link(made, job["id"])
        _until_job(stack, "outcome", "promoted")
        _until_told(made, "HoldfastDrift", "resolved")
        _until_told(made, "HoldfastObservedAccuracyLow", "resolved")
        made.act("models rollback", folder)
        stack.until(lambda: stack.metric("holdfast_drift_alarm") == 1, "it is drift again")
        made.act("drift accept", folder)
        turned.end()
        _until_told(made, "HoldfastReloadFailing", "resolved")  # ten minutes after the last one
        yield made


def _approve_by_the_alerts_link(night: Night, job: str) -> None:
    """Follow the link of the alert of harm, and answer there what the page asks."""
    alert = night.people.of("HoldfastObservedAccuracyLow")[-1]
    link = night.here(alert["annotations"]["console_url"])
    browser = Browser()
    try:
        with browser.page() as page:
            page.open(link)
            for words in ("Approve …", "Approve version"):
                page.until(BUTTON.format(words), words)
                page.run(f"{BUTTON.format(words)}.click()")
                if words.endswith("…"):
                    page.until("document.getElementById('why')", "it asks for a reason")
                    page.run("document.getElementById('why').value = 'the world has turned'")
            page.until("document.body.innerText.includes('Done.')", f"{job} is approved")
    finally:
        browser.close()


def _until_told(night: Night, name: str, status: str) -> None:
    night.stack.until(
        lambda: night.people.has(name, status), f"{name} {status}", seconds=TRAINS_SECONDS
    )


def _until_job(stack: Stack, key: str, value: str) -> dict[str, str]:
    found = stack.until(
        lambda: next((job for job in stack.jobs() if job[key] == value), None),
        f"a job whose {key} is {value}",
        seconds=TRAINS_SECONDS,
    )
    return dict(found)


def test_no_panel_is_empty_in_a_night_like_this(night: Night) -> None:
    assert night.unheard == set()


def test_every_command_of_a_runbook_runs(night: Night) -> None:
    assert night.failed == {}
    assert night.ran == set(_lines())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_query_of_a_runbook_is_answered_or_says_that_there_is_nothing(
    page: Path, night: Night
) -> None:
    for query in blocks(page, "promql"):
        ops.ask(night.url, query)  # an error of Prometheus is an error here


def test_people_are_told_once_that_it_begins_and_once_that_it_is_over(night: Night) -> None:
    told = night.people.told
    for name in ("HoldfastDrift", "HoldfastObservedAccuracyLow", "HoldfastReloadFailing"):
        assert (name, "firing") in told
        assert (name, "resolved") in told


def test_the_watcher_has_heard_alertmanager_and_one_alarm_made_one_job(night: Night) -> None:
    heard = night.stack.metric("holdfast_alerts_received_total", action="evaluate")
    assert heard is not None
    assert heard >= 2
    promoted = [job for job in night.stack.jobs() if job["outcome"] == "promoted"]
    assert len(promoted) == 1
