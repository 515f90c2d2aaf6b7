"""The loop: evaluate, decide, train, gate, (approve), promote, probation. Start reading at `run`.

It is one durable function: every step's result is kept by DBOS, so a process killed at any line
goes on at that line. Steps may run twice (a crash between the work and its record), so each is
idempotent: versions are published once per job id, promotion is compare-and-swap.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
from dbos import DBOS, DBOSConfiguredInstance

from models.errors import ChampionMovedError, HoldfastError
from models.registry import Registry
from models.stats import proportion
from monitoring.jobs import Job, JobStore, Task
from monitoring.logs import logger
from monitoring.performance import MIN_ROWS
from monitoring.processes import child_environment, ends_with_parent
from monitoring.records import RecordStore

Mode = Literal["auto", "manual", "report"]
LOOP_VERSION = "1"  # a workflow begun under one version is never continued under another
CHILD_TIMEOUT = 3600.0
POLL_SECONDS = 2.0
PROBATION_ROWS = 1000
WITHDRAWN = ("refused", "rejected", "expired")
log = logger("lifecycle")


class StepFailedError(HoldfastError):
    """A child process failed; the message is its own sentence or the end of its log."""


class Terms(msgspec.Struct, frozen=True):
    """How the loop is run."""

    state: str
    database_url: str
    mode: Mode = "auto"
    approval_timeout_seconds: float = 86_400.0
    probation_seconds: float = 30.0
    retrain_epochs: int = 20
    min_labels: int = 300
    label_patience_seconds: float = 900.0


@DBOS.dbos_class()
class Lifecycle(DBOSConfiguredInstance):
    """The loop over one state directory. `finished` is told every job that ended."""

    def __init__(
        self,
        terms: Terms,
        registry: Registry,
        jobs: JobStore,
        records: RecordStore,
        finished: Callable[[Job], None],
    ) -> None:
        super().__init__(config_name="lifecycle")
        self.terms = terms
        self.registry = registry
        self.jobs = jobs
        self.records = records
        self.finished = finished

    @DBOS.workflow(name="loop")
    def run(self, job_id: str) -> str:
        """Run a job to its outcome and return that: the whole loop, top to bottom."""
        try:
            return self._run(job_id)
        except HoldfastError as error:
            return self.end(job_id, "failed", str(error))

    def _run(self, job_id: str) -> str:
        job = self.stage(job_id, "collecting")
        self.child(job_id, "collect")
        self.stage(job_id, "evaluating")
        evaluation = self.child(job_id, "evaluate")
        self.change(job_id, {"evaluation": evaluation})
        verdict, words = evaluation["verdict"], evaluation["words"]
        if job["kind"] == "evaluate_robustness":
            return self.end(job_id, verdict, f"{words}; suspicious inputs are never trained on")
        if verdict != "failed" and job["kind"] != "retrain":
            return self.end(job_id, verdict, words)

        if job["kind"] != "retrain" and (short := self.await_labels(job_id)):
            return self.end(job_id, "inconclusive", f"{words}; {short}")
        self.stage(job_id, "training")
        challenger = self.child(job_id, "train")["version"]
        self.change(job_id, {"challenger": challenger})
        self.stage(job_id, "gating")
        checks = self.child(job_id, "gate")["checks"]
        self.change(job_id, {"checks": checks})
        if failing := [c for c in checks if not c["passed"]]:
            return self.end(job_id, "refused", _refusal(failing))
        if self.terms.mode == "report":
            return self.end(job_id, "reported", f"version {challenger} passed every gate")
        if self.terms.mode == "manual":
            self.wait(job_id)
            answer = DBOS.recv("approval", self.terms.approval_timeout_seconds)
            if answer is None:
                return self.end(job_id, "expired", "nobody approved it in time")
            if not answer["approved"]:
                return self.end(job_id, "rejected", f"by {answer['actor']}")

        self.stage(job_id, "promoting")
        if moved := self.promote(job_id, challenger):
            return self.end(job_id, "refused", moved)
        self.stage(job_id, "probation")
        deadline = self.clock() + self.terms.probation_seconds
        while self.clock() < deadline:
            DBOS.sleep(min(POLL_SECONDS, self.terms.probation_seconds))
            if worse := self.worse_than_before(job_id, challenger):
                return self.end(job_id, "rolled_back", self.roll_back(job_id, challenger, worse))
        return self.end(job_id, "promoted", f"version {challenger} replaced {job['champion']}")

    def await_labels(self, job_id: str) -> str | None:
        """Collect again once there are labels enough to train and to judge by.

        A fall in accuracy shows in fewer labels than it takes to mend it. Returns a sentence
        where they do not come in time.
        """
        need, deadline = self.terms.min_labels, self.clock() + self.terms.label_patience_seconds
        self.stage(job_id, "awaiting labels")
        while (have := self.labels(job_id)) < need:
            if self.clock() > deadline:
                waited = self.terms.label_patience_seconds
                return f"{have} of the {need} labels that retraining needs after {waited:g} s"
            DBOS.sleep(POLL_SECONDS)
        self.child(job_id, "collect")
        return None

    @DBOS.step()
    def labels(self, job_id: str) -> int:
        """Labelled rows of the champion since the cause began."""
        job = self.jobs.get(job_id)
        limit = self.terms.min_labels
        return len(self.records.observed(job.model, job.champion, limit, since=job.since))

    @DBOS.step()
    def clock(self) -> float:
        """Seconds since 1970, the same when the workflow is replayed."""
        return time.time()

    @DBOS.step()
    def stage(self, job_id: str, stage: str) -> dict[str, Any]:
        """Note where the job stands; returns the job as plain data."""
        log.info("job_stage", job=job_id, stage=stage)
        job = self.jobs.change(job_id, stage=stage, state="running")
        return dict(msgspec.to_builtins(job))

    @DBOS.step()
    def wait(self, job_id: str) -> None:
        """Note that the job waits for a person."""
        log.info("job_waits_for_approval", job=job_id)
        self.jobs.change(job_id, stage="approval", state="waiting")

    @DBOS.step()
    def change(self, job_id: str, fields: dict[str, Any]) -> None:
        """Note results on the job."""
        self.jobs.change(job_id, **fields)

    @DBOS.step()
    def end(self, job_id: str, outcome: str, detail: str) -> str:
        """Close the job and tell everybody."""
        job = self.jobs.get(job_id)
        if job.challenger is not None and outcome in WITHDRAWN:
            why = f"{outcome}: {detail}"
            self.registry.withdraw(job.model, job.challenger, actor="lifecycle", reason=why)
        job = self.jobs.change(job_id, state="done", stage="done", outcome=outcome, detail=detail)
        log.info("job_done", job=job_id, model=job.model, outcome=outcome, detail=detail)
        self.finished(job)
        return outcome

    @DBOS.step()
    def child(self, job_id: str, step: str) -> dict[str, Any]:
        """Run a heavy step in a process of its own that dies with this one."""
        folder = Path(self.terms.state) / "jobs" / job_id
        folder.mkdir(parents=True, exist_ok=True)
        task = Task(
            job=self.jobs.get(job_id),
            registry=str(self.registry.root),
            database_url=self.terms.database_url,
            retrain_epochs=self.terms.retrain_epochs,
            keys=self.registry.keys,
        )
        (folder / f"{step}.task.json").write_bytes(msgspec.json.encode(task))
        return run_child(folder, step)

    @DBOS.step()
    def promote(self, job_id: str, challenger: int) -> str | None:
        """Compare-and-swap the champion; a sentence where another one took its place."""
        job = self.jobs.get(job_id)
        try:
            self.registry.promote(
                job.model,
                challenger,
                expected=job.champion,
                actor="lifecycle",
                reason=job.reason,
                event=job_id,
            )
        except ChampionMovedError as error:
            return str(error)
        return None

    @DBOS.step()
    def worse_than_before(self, job_id: str, challenger: int) -> str | None:
        """A sentence if live labels already show the new champion to be worse than the old."""
        job = self.jobs.get(job_id)
        before = job.evaluation.get("window", {})
        now = proportion(self.records.observed(job.model, challenger, PROBATION_ROWS))
        if now.n < MIN_ROWS or not before.get("n") or now.high >= before["low"]:
            return None
        return f"live accuracy {now.value:.1%} (n = {now.n}) after {before['value']:.1%} before"

    @DBOS.step()
    def roll_back(self, job_id: str, challenger: int, why: str) -> str:
        """Bring the previous champion back, unless somebody else has changed it meanwhile."""
        job = self.jobs.get(job_id)
        if self.registry.aliases(job.model).champion == job.champion:
            return why  # rolled back already, before this step's result was kept
        try:
            self.registry.rollback(job.model, expected=challenger, actor="lifecycle", reason=why)
        except ChampionMovedError as error:
            return f"{why}; not rolled back: {error}"
        return why


def run_child(folder: Path, step: str) -> dict[str, Any]:
    """Run `monitoring.child` and read its result. Raises StepFailedError with a sentence."""
    for stale in (f"{step}.json", f"{step}.error"):
        (folder / stale).unlink(missing_ok=True)
    environment = child_environment() | {"OMP_NUM_THREADS": "1"}
    with (folder / "log").open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "monitoring.child", step, str(folder)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=ends_with_parent(signal.SIGKILL),
        )
        try:
            status = child.wait(CHILD_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise StepFailedError(f"{step} took more than {CHILD_TIMEOUT:g} s") from None
        finally:
            child.kill()
    if status == 0:
        result: dict[str, Any] = msgspec.json.decode((folder / f"{step}.json").read_bytes())
        return result
    told = folder / f"{step}.error"
    if told.exists():
        raise StepFailedError(f"{step}: {told.read_text()}")
    if status == -signal.SIGKILL:
        raise StepFailedError(
            f"{step} was killed, most likely for lack of memory: give the watcher's machine or "
            "container more, or make the data, the net or the batch smaller; "
            f"log: {folder / 'log'}"
        )
    raise StepFailedError(f"{step} ended with status {status}; log: {folder / 'log'}")


def _refusal(failing: list[dict[str, Any]]) -> str:
    return "; ".join(f"{c['name']}: {c['detail']}" for c in failing)
