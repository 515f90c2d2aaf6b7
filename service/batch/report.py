"""What `holdfast score` says at the end, for people and for programs."""

import resource

import msgspec

from models.statistics.intervals import wilson
from models.versions.schema import Manifest
from monitoring.evidence.explanation import BAR
from service.batch.facts import Failure, Job, RowFault, Totals
from service.batch.verdict import DriftVerdict

KIBIBYTE = 1024


class ClassAccuracy(msgspec.Struct, frozen=True):
    """Rows of a true class, and the share of them that was answered right."""

    name: str
    rows: int
    accuracy: float


class Accuracy(msgspec.Struct, frozen=True):
    """Accuracy on the rows that have a label of a known class and scores; a 95 % interval."""

    rows: int
    value: float
    low: float
    high: float
    classes: tuple[ClassAccuracy, ...]
    unknown_labels: int


class BatchReport(msgspec.Struct, frozen=True):
    """A batch that was scored.

    Args:
        out: path of the output.
        model, version: what scored it.
        rows: of the output; `scored` of them have scores, the others a fault.
        pieces: of the files; `resumed` of them were done by an earlier run.
        failures: pieces that could not be read: their rows are not in the output.
        faults: of rows without scores.
        classes: rows by answered class.
        flagged: rows by kind of flag.
        alpha: share of clean rows that drift flags by its threshold.
        drift: the verdict on all rows with scores.
        accuracy: None where no label column was named.
        peak_memory_bytes: resident, of this process; under Ray the workers have their own.
    """

    out: str
    model: str
    version: int
    rows: int
    scored: int
    pieces: int
    resumed: int
    failures: tuple[Failure, ...]
    faults: tuple[RowFault, ...]
    classes: dict[str, int]
    flagged: dict[str, int]
    alpha: float
    drift: DriftVerdict
    accuracy: Accuracy | None
    peak_memory_bytes: int

    @property
    def shortfall(self) -> str:
        """What is not there, in a sentence; empty where every row has its scores."""
        parts = []
        if self.failures:
            named = "; ".join(f"{each.piece}: {each.why}" for each in self.failures[:5])
            more = f"; and {len(self.failures) - 5} more" if len(self.failures) > 5 else ""
            parts.append(f"{len(self.failures)} of {self.pieces} pieces failed: {named}{more}")
        if self.rows > self.scored:
            count = self.rows - self.scored
            parts.append(f"{count} of {self.rows} rows have no scores (column `fault` says why)")
        return "; ".join(parts)


def report_of(
    job: Job,
    manifest: Manifest,
    totals: Totals,
    drift: DriftVerdict,
    out: str,
    pieces: int,
    resumed: int,
    failures: tuple[Failure, ...],
) -> BatchReport:
    """Put the report together."""
    return BatchReport(
        out, job.model, job.version, totals.rows, totals.scored, pieces, resumed, failures,
        totals.faults, dict(zip(manifest.classes, totals.classes, strict=False)), totals.flagged,
        manifest.calibration.alpha, drift, _accuracy(job, totals),
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIBIBYTE,
    )  # fmt: skip


def _accuracy(job: Job, totals: Totals) -> Accuracy | None:
    if not job.options.label:
        return None
    rows = sum(each.rows for each in totals.labels.values())
    right = sum(each.right for each in totals.labels.values())
    classes = tuple(
        ClassAccuracy(name, each.rows, each.right / each.rows)
        for name, each in sorted(totals.labels.items())
    )
    if not rows:
        return Accuracy(0, float("nan"), 0.0, 1.0, (), totals.unknown_labels)
    low, high = wilson(right / rows, rows)
    return Accuracy(rows, right / rows, low, high, classes, totals.unknown_labels)


def text_of(report: BatchReport) -> str:
    """The report for a terminal."""
    lines = [
        f"{report.model} v{report.version} scored {report.scored:,} of {report.rows:,} rows "
        f"({report.pieces} pieces, {report.resumed} of them done before): {report.out}",
        f"drift of the whole: {report.drift.verdict} ({report.drift.why})",
        f"flagged: {_shares(report)}; drift flags {report.alpha:.2%} of clean rows by itself",
    ]
    if report.drift.attacked is not None:
        known = "yes" if report.drift.attacked else "no"
        lines.append(f"attacked, as a whole: {known}")
    if report.drift.histogram:
        width = max(len(each.label) for each in report.drift.histogram)
        lines.append(f"{report.drift.channel:{width}}   before    after")
        lines += [
            f"{b.label:{width}}  {b.before:6.1%}   {b.after:6.1%}  {'#' * round(BAR * b.after)}"
            for b in report.drift.histogram
        ]
    accuracy = report.accuracy
    if accuracy is not None and not accuracy.rows:
        lines.append("accuracy: not known, no scored row has the label of a known class")
    elif accuracy is not None:
        lines.append(
            f"accuracy {accuracy.value:.2%} ({accuracy.low:.2%} to {accuracy.high:.2%}, 95 %) on "
            f"{accuracy.rows:,} labelled rows; {accuracy.unknown_labels} have another label"
        )
    for fault in report.faults:
        lines.append(f"no scores: {fault.rows} rows: {fault.what}; {'; '.join(fault.examples)}")
    lines += [f"failed: {each.piece}: {each.why}" for each in report.failures]
    lines.append(f"peak memory {report.peak_memory_bytes / 2**20:.0f} MiB")
    return "\n".join(lines)


def _shares(report: BatchReport) -> str:
    if not report.scored:
        return "nothing"
    return ", ".join(
        f"{kind} {number:,} ({number / report.scored:.2%})"
        for kind, number in report.flagged.items()
    )
