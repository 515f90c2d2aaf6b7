"""What the watcher exports, on its own registry and port: one process, so ordinary gauges."""

import math
from collections.abc import Sequence
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from models.evaluation.gates.checks import VERDICTS
from models.statistics.shadow import Shadowed
from models.versions.schema import Manifest
from monitoring.evidence.accuracy_watch import Accuracy
from monitoring.evidence.bets import ChannelReference
from monitoring.evidence.labels.watch import Harm
from monitoring.evidence.performance import expected_accuracy, promised_accuracy
from monitoring.evidence.stream import Stream
from monitoring.loop.jobs import Job
from monitoring.loop.triggers import ACTIONS, Refusal

OUTCOMES = (
    "passed", "inconclusive", "failed", "refused", "reported", "expired", "rejected",
    "rolled_back", "promoted", "abandoned",
)  # fmt: skip
STEPS = (
    "stage", "change", "against_training", "await_labels", "child", "follow", "held", "approval",
    "promote", "probation", "end", "followed", "shadow", "canary",
)  # fmt: skip
STAGE_BUCKETS = (1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600, 14_400, 86_400)
HOLD_ENDS = ("never", "by itself")


class StandingGauges:
    """How the loop stands with each model: `monitoring.watching.standing` sets them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"holdfast_{name}", text, labels, registry=registry)

        self.champion = gauge("champion_version", "The champion's number; 0: none", "model")
        self.made_at = gauge(
            "version_made_timestamp_seconds", "When the watched version was made",
            "model", "version",
        )  # fmt: skip
        self.stage_since = gauge(
            "job_stage_since_timestamp_seconds", "When a job came to its stage; 0: none is there",
            "model", "stage",
        )  # fmt: skip
        self.deadline = gauge(
            "job_deadline_timestamp_seconds", "When a waiting challenger expires; 0: none waits",
            "model",
        )  # fmt: skip
        self.budget_left = gauge(
            "lifecycle_budget_left_runs", "Runs that the loop may still begin today", "model"
        )
        self.held_since = gauge(
            "lifecycle_held_since_timestamp_seconds", "When a person took hold; 0: nobody",
            "model", "ends",
        )  # fmt: skip
        self.due_at = gauge(
            "evaluation_due_timestamp_seconds", "When the schedule is due next; 0: no schedule",
            "model",
        )  # fmt: skip
        self.labelled_at = gauge(
            "last_feedback_timestamp_seconds", "When the last label came; 0: none is kept", "model"
        )
        self.usual_gap = gauge(
            "feedback_gap_usual_seconds", "How long labels let wait as a rule; 0: not known",
            "model",
        )  # fmt: skip
        self.unknown = gauge(
            "figure_unknown", "1 while a figure that an alert needs is not known", "model", "figure"
        )
        self.used_bytes = gauge("state_used_bytes", "Bytes of a part of the state", "part")
        self.free_bytes = gauge("state_free_bytes", "Bytes that the disk of the state has left")


class WatchMetrics:
    """The watcher's metrics; names and meanings stand in docs/metrics.md."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._ticks = False
        self._models: set[str] = set()
        self._make_drift()
        self._make_accuracy()
        self._make_judgement()
        self._make_watch()
        self._make_loop()
        self.standing = StandingGauges(self.registry)
        self._touch()

    def _make_drift(self) -> None:
        """Evidence of drift, and what it is held against."""
        self.evidence = self._gauge("drift_evidence_log10", "Evidence of drift", "model", "channel")
        self.threshold = self._gauge(
            "drift_alarm_threshold_log10", "Evidence at which the alarm is raised", "model"
        )
        self.alarm = self._gauge("drift_alarm", "1 while traffic has drifted", "model")
        self.attacks = self._gauge(
            "perturbation_evidence_log10",
            "Evidence that requests are corrupted or attacked (quick), attacked (slow)",
            "model", "stream",
        )  # fmt: skip
        self.attack_threshold = self._gauge(
            "perturbation_alarm_threshold_log10", "Evidence at which attacks are told", "model"
        )
        self.attack_alarm = self._gauge(
            "perturbation_alarm", "1 while requests look attacked", "model"
        )
        self.reference = self._gauge(
            "reference_ratio", "Share of the reference in a cell",
            "model", "version", "channel", "cell",
        )  # fmt: skip
        self.dispersion = self._gauge(
            "drift_dispersion_ratio",
            "Variance of the counts over that of independent requests", "model", "channel",
        )  # fmt: skip

    def _make_accuracy(self) -> None:
        """Live accuracy: observed by labels, estimated without."""
        self.observed = self._gauge(
            "observed_accuracy_ratio", "Live accuracy from feedback; NaN without labels", "model"
        )
        self.observed_labels = self._gauge(
            "observed_accuracy_labels", "Labelled rows that the live accuracy rests on", "model"
        )
        self.observed_bounds = self._gauge(
            "observed_accuracy_bound_ratio", "95 % interval of the live accuracy", "model", "bound"
        )
        self.coverage = self._gauge(
            "label_coverage_ratio", "Share of the latest requests that have a label", "model"
        )
        self.delay = self._gauge(
            "label_delay_seconds", "Time from request to label", "model", "quantile"
        )
        self.biased = self._gauge(
            "labels_biased", "1 if the labelled requests do not speak for all", "model"
        )
        self.estimated = self._gauge(
            "estimated_accuracy_ratio", "Live accuracy estimated without labels", "model", "bound"
        )
        self.trustworthy = self._gauge(
            "estimated_accuracy_trustworthy", "0 while an alarm or labels speak against it", "model"
        )
        self.class_shares = self._gauge(
            "estimated_class_ratio", "Share of a true class, estimated in a class shift",
            "model", "class",
        )  # fmt: skip

    def _make_judgement(self) -> None:
        """What the champion promised, and how it was judged."""
        self.expected = self._gauge(
            "expected_accuracy_ratio", "Held-out accuracy of the champion", "model"
        )
        self.corrected = self._gauge(
            "corrected_accuracy_ratio",
            "Observed accuracy, corrected for which requests got labels", "model", "bound",
        )  # fmt: skip
        self.floor = self._gauge(
            "accuracy_floor_ratio", "Accuracy below which answers are worse than promised", "model"
        )
        self.harm = self._gauge(
            "harm_evidence_log10", "Evidence that answers are worse than promised", "model"
        )
        self.harm_threshold = self._gauge(
            "harm_alarm_threshold_log10", "Evidence at which the alarm of harm is raised", "model"
        )
        self.harm_alarm = self._gauge(
            "harm_alarm", "1 while answers are worse than promised, as far as labels are believed",
            "model",
        )  # fmt: skip
        self.evaluation = self._gauge(
            "evaluation_accuracy_ratio", "Accuracy of the last evaluation",
            "model", "version", "suite", "attack", "eps",
        )  # fmt: skip
        self.evaluated_at = self._gauge(
            "evaluation_last_success_timestamp_seconds", "When a version was last judged", "model"
        )
        self.gate = self._gauge(
            "gate_verdict", "1 for what a gate says of the last challenger: pass, fail or unknown",
            "model", "check", "verdict",
        )  # fmt: skip
        self.shadow_requests = self._gauge(
            "shadow_requests", "Requests that both versions answered in the last comparison",
            "model", "answers",
        )  # fmt: skip
        self.shadow_labels = self._gauge(
            "shadow_labels", "Labelled ones of them, by which version alone was right",
            "model", "right",
        )  # fmt: skip
        self.shadow_seconds = self._gauge(
            "shadow_run_seconds", "Median processor time of a run of one row", "model", "role"
        )
        self.canary_share = self._gauge(
            "canary_share", "Share of the requests that a challenger answers", "model"
        )

    def _make_watch(self) -> None:
        """The watcher itself, and the services that it reads."""
        self.leader = self._gauge("watcher_leader", "1 while this watcher leads; 0: it stands by")
        # Absent until the first look: 1970 would be a lie, and absence is what alerts bridge.
        self.tick = Gauge(
            "holdfast_watch_last_tick_timestamp_seconds",
            "When the watcher last looked",
            registry=None,
        )
        self.problem = self._gauge(
            "watch_problem", "1 while the model has the problem", "model", "problem"
        )
        self.problems = self._counter(
            "watch_problems", "Times that a model got the problem", "model", "problem"
        )
        self.service_up = self._gauge(
            "watch_service_up", "1 while the service's counters can be read", "service"
        )
        self.service_failures = self._counter(
            "watch_service_failures", "Looks at a service that failed", "service", "reason"
        )

    def _make_loop(self) -> None:
        """Jobs of the loop, and alerts that start them."""
        self.runs = self._counter("lifecycle_runs", "Runs of the loop", "model", "kind", "outcome")
        self.refusals = self._counter(
            "lifecycle_refusals", "Runs that were not started", "model", "reason"
        )
        self.retries = self._counter(
            "lifecycle_retries", "Tries of a step that a passing fault ended", "step"
        )
        self.stalled = self._gauge(
            "lifecycle_stalled", "1 while the running job of a model does not move", "model"
        )
        self.moved = self._gauge(
            "lifecycle_moved_timestamp_seconds", "When the running job of a model last moved",
            "model",
        )  # fmt: skip
        self.alerts = self._counter(
            "alerts_received", "Alerts from Alertmanager or Grafana", "action", "decision"
        )
        self.stage_seconds = Histogram(
            "holdfast_job_stage_duration_seconds", "Time that a job spent in a stage",
            ("model", "stage"), buckets=STAGE_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.scrape_failures = self._counter(
            "watch_scrape_failures", "Looks at the service that failed"
        )

    def _touch(self) -> None:
        """Series exist at 0 from the start, so that their first rise is seen."""
        for step in STEPS:
            self.retries.labels(step)
        for action in (*ACTIONS, "unknown"):
            for decision in ("started", "failed", *get_args(Refusal)):
                self.alerts.labels(action, decision)
        self.alerts.labels("unknown", "unreadable")

    def touch(self, model: str) -> None:
        """Let the counters of a model exist at 0, so that their first rise is seen."""
        self._models.add(model)
        for kind in ACTIONS:
            for outcome in OUTCOMES:
                self.runs.labels(model, kind, outcome)
        for reason in get_args(Refusal):
            self.refusals.labels(model, reason)

    def count_refusal(self, model: str, reason: str) -> None:
        """Count a trigger that started nothing; a name that no model has is none of a label."""
        self.refusals.labels(model if model in self._models else "", reason).inc()

    def show_version(self, manifest: Manifest, references: list[ChannelReference]) -> None:
        """Export a new champion's reference and figures; those of the old one go."""
        model, version = manifest.model, str(manifest.version)
        self.touch(model)
        of_version = (self.attacks, self.attack_threshold, self.attack_alarm)
        for gauge in (
            self.reference, self.evaluation, self.evidence, self.dispersion, *of_version,
        ):  # fmt: skip
            gauge.remove_by_labels({"model": model})
        self.show_references(model, version, references)
        self.expected.labels(model).set(expected_accuracy(promised_accuracy(manifest.evaluation)))
        self._show_evaluation(manifest)

    def show_references(
        self, model: str, version: str, references: Sequence[ChannelReference]
    ) -> None:
        """Export what a version is compared with: its own reference, or accepted traffic."""
        for reference in references:
            total = reference.alpha.sum()
            for cell, weight in enumerate(reference.alpha):
                labels = (model, version, reference.name, f"{cell:02d}")
                self.reference.labels(*labels).set(weight / total)

    def show_stream(self, stream: Stream) -> None:
        """Export the evidence of a stream as it is now."""
        model, evidence = stream.model, stream.evidence
        for channel, value in evidence.log10_evidence().items():
            self.evidence.labels(model, channel).set(value)
        for channel, phi in evidence.phi().items():
            self.dispersion.labels(model, channel).set(phi)
        self.threshold.labels(model).set(evidence.threshold_log10)
        self.alarm.labels(model).set(evidence.alarm is not None)
        watch = stream.perturbation
        if watch is not None:
            for speed, value in watch.log10_evidence().items():
                self.attacks.labels(model, speed).set(value)
            self.attack_threshold.labels(model).set(watch.slow.threshold_log10)
            self.attack_alarm.labels(model).set(watch.slow.alarm)

    def show_job(self, job: Job) -> None:
        """Export what a job that ended found."""
        for check in job.checks:
            for verdict in VERDICTS:
                self.gate.labels(job.model, check.name, verdict).set(check.verdict == verdict)
        if job.evaluation is not None:
            self.evaluated_at.labels(job.model).set(job.evaluation.at)
        if job.shadow is not None:
            self._show_shadow(job.model, job.shadow)

    def count_job(self, job: Job) -> None:
        """Count a job that ended just now, and the time that it spent in each of its stages."""
        self.runs.labels(job.model, job.kind, job.outcome).inc()
        for stage, seconds in job.stage_seconds().items():
            self.stage_seconds.labels(job.model, stage).observe(seconds)

    def _show_shadow(self, model: str, shadow: Shadowed) -> None:
        agreement, pairs = shadow.agreement, shadow.comparison
        alike = agreement.requests - agreement.disagreed
        for answers, requests in (("alike", alike), ("different", agreement.disagreed)):
            self.shadow_requests.labels(model, answers).set(requests)
        for right, labels in (
            ("champion", pairs.champion_only),
            ("challenger", pairs.challenger_only),
            ("both or none", pairs.alike),
        ):
            self.shadow_labels.labels(model, right).set(labels)
        for role, seconds in (
            ("champion", shadow.champion_seconds),
            ("challenger", shadow.challenger_seconds),
        ):
            self.shadow_seconds.labels(model, role).set(math.nan if seconds is None else seconds)

    def looked(self, now: float) -> None:
        """A look at all models is complete."""
        self.tick.set(now)
        if not self._ticks:
            self.registry.register(self.tick)
        self._ticks = True

    def forget(self, model: str) -> None:
        """Nothing of a model that is gone stays."""
        self._models.discard(model)
        for metric in (*vars(self).values(), *vars(self.standing).values()):
            if isinstance(metric, MetricWrapperBase) and "model" in metric._labelnames:
                metric.remove_by_labels({"model": model})

    def show_accuracy(self, model: str, known: Accuracy) -> None:
        """Export the live accuracy, observed and estimated; what is not known is NaN."""
        seen, guess, shift = known.observed, known.estimated, known.label_shift
        for bound in ("low", "high"):
            value = getattr(seen.accuracy, bound) if seen and seen.accuracy.n else math.nan
            self.observed_bounds.labels(model, bound).set(value)
        self.coverage.labels(model).set(seen.coverage.value if seen else math.nan)
        delays = (seen.delay_median_seconds, seen.delay_p90_seconds) if seen else (None, None)
        for quantile, delay in zip(("0.5", "0.9"), delays, strict=True):
            self.delay.labels(model, quantile).set(math.nan if delay is None else delay)
        self.biased.labels(model).set(bool(seen and seen.bias))
        corrected = seen.corrected if seen else None
        for bound in ("value", "low", "high"):
            value = math.nan if corrected is None else getattr(corrected, bound)
            self.corrected.labels(model, bound).set(value)
            value = math.nan if guess is None else getattr(guess, bound)
            self.estimated.labels(model, bound).set(value)
        self.trustworthy.labels(model).set(math.nan if guess is None else guess.trustworthy)
        self.class_shares.remove_by_labels({"model": model})
        for name, share in (shift.shares if shift else {}).items():
            self.class_shares.labels(model, name).set(share.value)

    def show_harm(self, model: str, harm: Harm) -> None:
        """Export what the labels say of harm; a floor that is not known is NaN."""
        self.floor.labels(model).set(harm.floor)
        self.harm.labels(model).set(harm.evidence_log10)
        self.harm_threshold.labels(model).set(harm.threshold_log10)
        self.harm_alarm.labels(model).set(harm.acts)

    def _show_evaluation(self, manifest: Manifest) -> None:
        """The figures of the version's evaluation, each under the name of the attack it had."""
        figures = manifest.evaluation
        if figures is None:
            return
        labels = manifest.model, str(manifest.version), figures.suite
        self.evaluation.labels(*labels, "none", "0").set(figures.clean.value)
        for p in [*([figures.robust] if figures.robust else []), *figures.robust_curve]:
            self.evaluation.labels(*labels, p.attack, f"{p.eps:g}").set(p.value)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"holdfast_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"holdfast_{name}", text, labels, registry=self.registry)
