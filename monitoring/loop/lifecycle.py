"""The loop: evaluate, decide, train, gate, (approve), shadow, (canary), promote, probation: `run`.

It is one durable function: every step's result is kept by DBOS, so a process killed at any line
goes on at that line. Steps may run twice (a crash between the work and its record), so each is
idempotent: a job publishes once and promotes once, by compare-and-swap. Any exception ends the job
by name; what passes is waited for (`durable.patience`); an `Interrupted` process ends nothing.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from dbos import DBOS

from models.base.logs import logger
from models.evaluation.gates.catalogue import plan, undecided
from models.evaluation.gates.checks import Check, with_judged, words_of
from models.evaluation.gates.live import with_shadow
from models.statistics.shadow import Verdict, decided
from models.versions.registry import Registry
from monitoring.loop import promotion
from monitoring.loop.deciding.tried import describe_choice, explain_repeat
from monitoring.loop.durable.recorded import recorded, sentence
from monitoring.loop.durable.steadfast import Steadfast
from monitoring.loop.durable.turns import Turns, nth
from monitoring.loop.jobs import APPROVAL, LABELS_APPROVAL, Job, JobOverError, JobStore
from monitoring.loop.metrics import WatchMetrics
from monitoring.loop.results import Gated, Look, Refereed, Trained, WindowFacts
from monitoring.loop.steps import Latest, run_beside, run_child, write_task
from monitoring.loop.terms import Workplace, quota_of, task_of, terms_of
from monitoring.loop.verdict_page import write_verdict
from monitoring.records.keeping.limits import NO_INPUTS
from monitoring.records.store import RecordStore
from monitoring.records.usable import Usable

RUN_ON_SECONDS = float("inf")  # a job's end is tried until it is written
WITHDRAWN = ("refused", "rejected", "expired", "failed", "abandoned")
Result = TypeVar("Result")
log = logger("lifecycle")


@DBOS.dbos_class()
class Lifecycle(Steadfast):
    """The loop over one state directory. `finished` is told every job that ended."""

    def __init__(
        self,
        place: Workplace,
        registry: Registry,
        jobs: JobStore,
        records: RecordStore,
        metrics: WatchMetrics,
        finished: Callable[[Job], None],
        trainings: int = 1,
    ) -> None:
        super().__init__("lifecycle", jobs, metrics)
        self.place = place
        self.registry = registry
        self.records = records
        self.finished = finished
        self.turns = Turns(trainings)

    @DBOS.workflow(name="loop", max_recovery_attempts=None)
    def run(self, job_id: str) -> str:
        """Run a job to its outcome and return that: the whole loop, top to bottom."""
        with self.beats.running(job_id):
            try:
                return self.end(job_id, *self._run(job_id))
            except JobOverError as error:
                return self.end(job_id, error.job.outcome or "abandoned", error.job.detail)
            except Exception as error:
                log.exception("job_failed", job=job_id, error=sentence(error))
                return self.end(job_id, "failed", sentence(error) + self._standing(job_id))

    def _run(self, job_id: str) -> tuple[str, str]:
        job = self.stage(job_id, "collecting")
        terms = terms_of(job)
        self.child(job_id, "collect")
        self.stage(job_id, "evaluating")
        look = msgspec.convert(self.child(job_id, "evaluate"), Look)
        self.change(job_id, evaluation=look)
        words = look.words
        if job.kind == "evaluate_robustness":
            return look.verdict, f"{words}; suspicious inputs are never trained on"
        if look.verdict != "failed" and job.kind != "retrain":
            return look.verdict, words
        if job.kind != "retrain":
            if against := self.against_training(job_id):
                return "reported", f"{words}; {against}"
            self.stage(job_id, "awaiting labels")
            if short := self.await_labels(job_id):
                return "inconclusive", f"{words}; {short}"
            self.child(job_id, "collect")
        self.change(job_id, checks=plan())
        self.stage(job_id, "refereeing")
        refereed = msgspec.convert(self.child(job_id, "referee"), Refereed)
        checks = with_judged(plan(), refereed.checks)
        self.change(job_id, checks=checks, window=refereed.window)
        if failing := words_of(checks, "fail"):
            return "refused", f"nothing was trained; {failing}"
        if refereed.changed:
            if unwanted := self.follow(job_id, refereed):
                return unwanted[0], f"nothing was trained; {unwanted[1]}"
            self.change(job_id, checks=(checks := self.followed(job_id, checks)))
        if tried := self.tried(job_id, refereed.window):
            return "inconclusive", f"nothing was trained; {tried}"
        trained = msgspec.convert(self.child(job_id, "train"), Trained)
        challenger = trained.version
        self.change(job_id, challenger=challenger, material=trained.material)
        self.stage(job_id, "gating")
        checks = with_judged(checks, msgspec.convert(self.child(job_id, "gate"), Gated).checks)
        self.change(job_id, checks=checks)
        if failing := words_of(checks, "fail"):
            return "refused", failing
        unknown, passed = undecided(checks), f"version {challenger} passed every gate"
        if unknown:
            passed = f"version {challenger} failed no gate; {words_of(unknown, 'unknown')}"
        if terms.mode == "report":
            return "reported", passed
        if held := self.held(job_id):
            return "reported", f"{passed}; {held}"
        if unknown and terms.mode == "auto":
            return "inconclusive", f"{passed}; {describe_choice(job.model, challenger, checks)}"
        if terms.mode == "manual" and (unwanted := self.approval(job_id)):
            return unwanted[0], unwanted[1]

        self.stage(job_id, "shadowing")
        if unfit := self.shadow(job_id, challenger):
            return unfit[0], unfit[1]
        if terms.canary and (stopped := self.canary(job_id, challenger)):
            return stopped[0], stopped[1]
        self.stage(job_id, "promoting")
        if stopped := self.promote(job_id, challenger):
            return stopped[0], stopped[1]
        self.stage(job_id, "probation")
        if ended := self.probation(job_id, challenger):
            return ended[0], ended[1]
        return "promoted", self.jobs.get(job_id).promotion_words

    @recorded
    def stage(self, job_id: str, stage: str) -> Job:
        """Note where the job stands; returns the job."""
        log.info("job_stage", job=job_id, stage=stage)
        return self.jobs.advance(job_id, stage=stage, state="running")

    @recorded
    def change(self, job_id: str, /, **fields: Any) -> None:
        """Note results on the job."""
        self.jobs.advance(job_id, **fields)

    @recorded
    def against_training(self, job_id: str) -> str | None:
        """Why a failed evaluation is only reported: a hold, or a challenger that waits."""
        job = self.jobs.get(job_id)
        return promotion.against_training(self.registry, job, self.jobs.unfinished(job.model))

    @recorded
    def await_labels(self, job_id: str) -> str | None:
        """Wait until there are labels enough to train and to judge by.

        A fall in accuracy shows in fewer labels than it takes to mend it. Returns a sentence
        where they do not come in time.
        """
        job = self.jobs.get(job_id)
        terms, since = terms_of(job), job.since
        quota = quota_of(terms)

        def labels() -> Usable:
            return self.records.usable(job.model, version=job.champion, since=since, quota=quota)

        def enough() -> bool | None:
            return len(labels()) >= terms.min_labels or None

        if self.wait(job_id, "labels", terms.label_patience_seconds, enough):
            return None
        waited = terms.label_patience_seconds
        words = labels().words_of(terms.min_labels, f"that retraining needs after {waited:g} s")
        return words + (f": {NO_INPUTS}" if self.records.has_inputs(job.model) is False else "")

    @recorded
    def child(self, job_id: str, step: str) -> Any:
        """Run a heavy step in a process of its own; trainings take turns.

        Returns the step's record of `monitoring.loop.results` as plain data.
        """
        job = self.jobs.get(job_id)
        if step != "train":
            return self._child(job, step)

        def tell(place: int) -> None:
            stage = f"queued for training ({nth(place)})" if place else "training"
            self.beats.beat(job_id)
            if self.jobs.get(job_id).stage != stage:
                log.info("job_stage", job=job_id, stage=stage)
                self.jobs.advance(job_id, stage=stage)

        with self.turns.turn(job.model, job.created_at, tell, self.stop):
            return self._child(job, step)

    def _child(self, job: Job, step: str) -> Any:
        return run_child(
            self._task(job, step), step, seconds=terms_of(job).step_timeout_seconds,
            beat=lambda: self.beats.beat(job.id), stop=self.stop,
        )  # fmt: skip

    def _task(self, job: Job, step: str) -> Path:
        """Write the task of a step; returns the folder of the job."""
        folder = Path(self.place.state) / "jobs" / job.id
        write_task(folder, step, task_of(job, self.registry, self.place))
        return folder

    @recorded
    def follow(self, job_id: str, refereed: Refereed) -> tuple[str, str] | None:
        """Whether changed labels are meant: a trusted labeller or a person says so, first.

        Outcome and detail where they are not followed. It waits in every mode: people who poison
        labels together look the same.
        """
        if not refereed.can_follow:
            return "inconclusive", refereed.changed
        self.jobs.advance(job_id, changes=refereed.changes)
        if refereed.followed:
            self.jobs.advance(job_id, followed=refereed.followed)
            return None
        if unwanted := self._ask(job_id, LABELS_APPROVAL, refereed.changed):
            return unwanted
        answer = self.jobs.get(job_id).labels_answer
        self.jobs.advance(job_id, followed="" if answer is None else answer.words)
        return None

    @recorded
    def followed(self, job_id: str, checks: tuple[Check, ...]) -> tuple[Check, ...]:
        """The checks once the change of the labels is followed."""
        labels, by = next(c for c in checks if c.name == "labels"), self.jobs.get(job_id).followed
        said = f"{labels.detail}; {by}"
        return with_judged(checks, [msgspec.structs.replace(labels, verdict="pass", detail=said)])

    @recorded
    def tried(self, job_id: str, window: WindowFacts) -> str:
        """Why a training would repeat an earlier one of this champion, in words; else empty."""
        job = self.jobs.get(job_id)
        earlier = self.jobs.begun(job.model, after=job.reign_then, until=job.created_at)
        return self.jobs.advance(job_id, tried=explain_repeat(job, window, earlier)).tried

    @recorded
    def approval(self, job_id: str) -> tuple[str, str] | None:
        """Wait for a person: the first answer counts. Outcome and detail where it is not yes."""
        return self._ask(job_id, APPROVAL, "")

    def _ask(self, job_id: str, stage: str, about: str) -> tuple[str, str] | None:
        job = self.jobs.ask(job_id, stage)
        log.info("job_waits_for_approval", job=job_id, stage=stage, about=about)

        def answered() -> Job | None:
            now = self.jobs.get(job_id)
            return now if now.state == "done" or now.answer_to(stage) is not None else None

        now = self.wait(job_id, stage, terms_of(job).approval_timeout_seconds, answered)
        if now is None:
            late = "nobody approved it in time"
            now = self.jobs.expire(job_id, f"{about}; {late}" if about else late)
            self._tell(now)
        answer = now.answer_to(stage)
        if answer is None:
            return str(now.outcome), now.detail
        return None if answer.approved else ("rejected", answer.words)

    @recorded
    def held(self, job_id: str) -> str | None:
        """Who holds the model, and what a person may do with the challenger."""
        job = self.jobs.get(job_id)
        held = promotion.held_words(self.registry, job)
        ways = f"promote it by hand or release it (`holdfast models release {job.model}`)"
        return held and f"{held}; {ways}"

    @recorded
    def shadow(self, job_id: str, challenger: int) -> tuple[str, str] | None:
        """Let the challenger answer live requests; outcome and detail where it is not promoted."""
        job = self.jobs.get(job_id)
        with self._beside(job, "shadow") as latest:
            most = terms_of(job).shadow_seconds
            seen = self.wait(job_id, "shadow", most, lambda: decided(latest()))
            checks = with_shadow(self.jobs.get(job_id).checks, seen or latest())
            self.jobs.advance(job_id, checks=checks)
        return promotion.judge_shadow(self.jobs.get(job_id), challenger, seen)

    @recorded
    def canary(self, job_id: str, challenger: int) -> tuple[str, str] | None:
        """Let the challenger answer a share of the requests; outcome and detail where it stops."""
        log.info("job_stage", job=job_id, stage="canary")
        job = self.jobs.advance(job_id, stage="canary")
        registry, seconds = self.registry, terms_of(job).canary_seconds
        if stopped := promotion.begin_canary(registry, job, challenger):
            return stopped
        with self._beside(job, "canary") as latest:
            look = promotion.watch_canary(registry, job, latest)
            try:
                verdict: Verdict | None = self.wait(job_id, "canary", seconds, look)
            finally:
                words = promotion.end_canary(registry, job, latest())
        return promotion.judge_canary(job, challenger, verdict, words)

    def _beside(self, job: Job, step: str) -> AbstractContextManager[Latest]:
        """Let the version that does not serve answer; the job has its figures, or why not."""
        return run_beside(
            self._task(job, step), step,
            lambda seen: self.jobs.advance(job.id, shadow=msgspec.structs.replace(seen, step=step)),
            lambda why: self.jobs.lose(job.id, step, why),
        )  # fmt: skip

    @recorded
    def promote(self, job_id: str, challenger: int) -> tuple[str, str] | None:
        """Make the challenger the champion; outcome and detail where that may not be."""
        job = self.jobs.advance(job_id, stage="promoting")
        return promotion.promote(self.registry, job, challenger)

    @recorded
    def probation(self, job_id: str, challenger: int) -> tuple[str, str] | None:
        """Watch the new champion; outcome and detail where it does not stay."""
        job = self.jobs.get(job_id)

        def verdict() -> tuple[str, str] | None:
            if changed := promotion.replaced_by(self.registry, job, challenger):
                return "rolled_back", changed
            if (seen := latest()) is None or seen.verdict != "worse":
                return None
            words = promotion.roll_back(self.registry, job, challenger, seen.words())
            return "rolled_back", words

        with self._beside(job, "probation") as latest:
            most = terms_of(job).probation_seconds
            return self.wait(job_id, "probation", most, verdict) or verdict()

    def _standing(self, job_id: str) -> str:
        """What a job that failed leaves behind, where that is a champion nobody watches."""
        try:
            job = self.jobs.get(job_id)
            stands = promotion.promoted_by(self.registry, job)
        except Exception as error:
            log.warning("job_standing_unknown", job=job_id, error=sentence(error))
            return ""
        return f"; version {stands} was promoted before, and stays" if stands else ""

    def end(self, job_id: str, outcome: str, detail: str) -> str:
        """Close the job and tell everybody; no step, as it is idempotent by itself."""

        def close() -> Job:
            before = self.jobs.get(job_id)
            self._withdraw(before, outcome, detail)
            job = self.jobs.end(job_id, outcome, detail)
            if before.state != "done":
                self._tell(job)
            return job

        return str(self.patiently(job_id, "end", close, RUN_ON_SECONDS).outcome)

    def _withdraw(self, job: Job, outcome: str, detail: str) -> None:
        """Take back a challenger that is not wanted; a broken registry does not keep a job open."""
        if outcome not in WITHDRAWN:
            return
        why = f"{outcome}: {detail}"
        try:
            self.patiently(job.id, "end", lambda: promotion.withdraw(self.registry, job, why))
        except Exception as error:
            log.error("challenger_not_withdrawn", job=job.id, error=sentence(error))

    def abandon(self, seen: Job, detail: str) -> None:
        """Close a job that nobody goes on with, if it is still as it was seen.

        Its challenger is taken back first: a job that has ended is not looked at again.
        """
        claimed = self.jobs.claim(seen, detail)
        if claimed is None:
            return
        self._withdraw(claimed, "abandoned", detail)
        job = self.jobs.abandon(claimed, detail)
        if job.outcome == "abandoned":
            self._tell(job)

    def _tell(self, job: Job) -> None:
        if job.state != "done":
            return
        log.info("job_done", job=job.id, model=job.model, outcome=job.outcome, detail=job.detail)
        try:
            write_verdict(Path(self.place.state), job)
        except Exception:
            log.exception("verdict_page_not_written", job=job.id)
        try:
            self.finished(job)
        except Exception:
            log.exception("job_end_not_shown", job=job.id)
