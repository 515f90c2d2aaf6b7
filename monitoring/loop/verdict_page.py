"""The page of a job that has ended: why its challenger was or was not promoted."""

from datetime import UTC, datetime
from pathlib import Path

from models.base.files import write_atomic
from models.reporting.verdict import render_verdict
from monitoring.loop.jobs import Job, PersonAnswer

PAGE = "verdict.html"


def write_verdict(state: Path, job: Job) -> Path:
    """Write `jobs/<id>/verdict.html` in the state directory; returns its path."""
    path = state / "jobs" / job.id / PAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, render_job(job).encode())
    return path


def render_job(job: Job) -> str:
    """The page of a job that has ended as HTML."""
    facts = (
        ("job", job.id),
        ("kind", job.kind),
        ("because", job.reason),
        ("started by", job.source),
        ("began", _time(job.created_at)),
        ("ended", "" if job.ended_at is None else _time(job.ended_at)),
        ("champion", f"version {job.champion}"),
        ("challenger", "" if job.challenger is None else f"version {job.challenger}"),
        ("look at the champion", "" if job.evaluation is None else job.evaluation.words),
        ("changed labels", job.followed or _said(job.labels_answer)),
        ("learnt from", job.material),
        ("answer", _said(job.answer)),
    )
    return render_verdict(_title(job), f"{job.outcome}: {job.detail}", facts, job.checks)


def _said(answer: PersonAnswer | None) -> str:
    return "" if answer is None else answer.words


def _title(job: Job) -> str:
    """What the page answers.

    >>> _title(Job("j", "retrain", "digits", 1, "person", "", 0.0, 0.0, challenger=2))
    'Why version 2 of digits was not promoted'
    """
    if job.challenger is None:
        return f"Why nothing new was promoted for {job.model}"
    was = "was" if job.outcome == "promoted" else "was not"
    if job.outcome == "rolled_back":
        was = "did not stay although it was"
    return f"Why version {job.challenger} of {job.model} {was} promoted"


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
