"""`holdfast jobs`: the loop's runs, and the answers it waits for."""

import http.client
import json
from collections.abc import Mapping
from pathlib import Path

import click
import msgspec
import sqlalchemy as sa

from models.base.errors import HoldfastError
from models.versions.registry import Registry
from monitoring.loop.jobs import Job, JobStore
from monitoring.loop.verdict_page import PAGE
from monitoring.records.database import engine_url
from service.cli.changes import reason_option
from service.cli.terminal.output import emit, json_option, table
from service.cli.waiting import describe_waits
from service.configuration.addresses import join, near
from service.configuration.settings import Settings

SAID = {"pass": "passed", "fail": "FAILED", "unknown": "unknown"}


class _Members(msgspec.Struct, frozen=True):
    """What is read of the watcher's answers: of a job its id, of a refusal what is wrong."""

    id: str = ""
    detail: str = ""


@click.group()
def jobs() -> None:
    """List and show runs of the loop, start one, approve or reject a challenger.

    \b
    Example:
      holdfast jobs list
    """


@jobs.command("list")
@click.option("--model", help="Only of this model.")
@json_option
@click.pass_obj
def list_(settings: Settings, model: str | None, as_json: bool) -> None:
    """The newest runs first, and why each model is not retrained yet.

    \b
    Example:
      holdfast jobs list
    """
    runs = _store(settings).all(model)

    def text() -> str:
        rows = [
            (
                j.id,
                j.model,
                j.kind,
                j.source,
                j.outcome or j.stage,
                j.challenger or "",
                j.detail[:90],
            )
            for j in runs
        ]
        header = ("job", "model", "kind", "by", "outcome", "challenger", "detail")
        registry = Registry(settings.registry_dir, settings.keys)
        models = [model] if model else registry.models()
        waits = [describe_waits(settings, registry, name) for name in models]
        return "\n".join([table(header, rows) if rows else "no runs yet", *waits])

    emit(runs, as_json, text)


@jobs.command()
@click.argument("job_id")
@json_option
@click.pass_obj
def show(settings: Settings, job_id: str, as_json: bool) -> None:
    """One run: why it began, what it found, which gate said what.

    \b
    Example:
      holdfast jobs show 20260101-120000-abc123
    """
    job = _store(settings).get(job_id)
    page = Path(settings.state) / "jobs" / job.id / PAGE

    def text() -> str:
        return _text(job) + (f"\n  {'page':10} {page}" if page.exists() else "")

    emit(job, as_json, text)


@jobs.command()
@click.argument("model")
@click.option(
    "--kind",
    type=click.Choice(["evaluate", "evaluate_robustness", "retrain"]),
    default="evaluate",
    help="What shall be done.",
)
@reason_option("asked for on the command line")
@click.option("--options", default="{}", help='JSON, e.g. \'{"recipe": {"epochs": 5}}\'.')
@json_option
@click.pass_obj
def start(
    settings: Settings, model: str, kind: str, reason: str, options: str, as_json: bool
) -> None:
    """Start a run by hand through the running watcher.

    \b
    Example:
      holdfast jobs start digits --kind retrain
    """
    try:
        members = json.loads(options)
    except json.JSONDecodeError as error:
        raise click.UsageError(f"--options is no JSON: {error}") from None
    wish = {"model": model, "kind": kind, "reason": reason, "options": members}
    reply = _call(settings, "/jobs", wish)
    emit(reply, as_json, lambda: f"started {msgspec.json.decode(reply, type=_Members).id}")


@jobs.command()
@click.argument("job_id")
@reason_option()
@json_option
@click.pass_obj
def approve(settings: Settings, job_id: str, reason: str, as_json: bool) -> None:
    """Say yes to a job that waits: to its challenger, or to labels that have changed.

    Where labels have changed, old rows get the labels that they have now, and training begins. The
    first answer counts.

    \b
    Example:
      holdfast jobs approve 20260101-120000-abc123 --reason "looks right"
    """
    reply = _call(settings, f"/jobs/{job_id}/approve", {"reason": reason})
    emit(reply, as_json, lambda: f"{job_id}: approved")


@jobs.command()
@click.argument("job_id")
@reason_option()
@json_option
@click.pass_obj
def reject(settings: Settings, job_id: str, reason: str, as_json: bool) -> None:
    """Say no to a job that waits: nothing is trained or promoted; the first answer counts.

    \b
    Example:
      holdfast jobs reject 20260101-120000-abc123 --reason "the labels are wrong"
    """
    reply = _call(settings, f"/jobs/{job_id}/reject", {"reason": reason})
    emit(reply, as_json, lambda: f"{job_id}: rejected")


def _store(settings: Settings) -> JobStore:
    Path(settings.state).mkdir(parents=True, exist_ok=True)
    return JobStore(sa.create_engine(engine_url(settings.database_url)))


def _text(job: Job) -> str:
    facts = msgspec.to_builtins(job)
    keys = (
        "model",
        "kind",
        "source",
        "reason",
        "champion",
        "challenger",
        "stage",
        "outcome",
        "detail",
    )
    lines = [f"job {job.id}", *(f"  {k:10} {facts[k]}" for k in keys if facts[k] is not None)]
    lines += [f"  {name:10} {words}" for name, words in _said(job) if words]
    lines += [f"  {SAID[check.verdict]:7} {check.name}: {check.detail}" for check in job.checks]
    return "\n".join(lines)


def _said(job: Job) -> tuple[tuple[str, str], ...]:
    return (
        ("labels", "" if job.labels_answer is None else job.labels_answer.words),
        ("followed", job.followed),
        ("learnt from", job.material),
        ("answer", "" if job.answer is None else job.answer.words),
        (f"in {job.shadow.step}" if job.shadow else "", job.shadow.words() if job.shadow else ""),
    )


def _call(settings: Settings, path: str, body: Mapping[str, object]) -> msgspec.Raw:
    """POST to the watcher with the admin token; the JSON of its answer.

    Raises:
        HoldfastError: there is no token, the watcher does not answer, or it refuses.
    """
    token = Path(settings.admin_token_file or Path(settings.state) / "run" / "admin_token")
    if not token.exists():
        raise HoldfastError(f"no admin token in {token}: is the watcher running? (holdfast watch)")
    headers = {"Authorization": f"Bearer {token.read_text().strip()}"}
    host = near(settings.watch_host)
    connection = http.client.HTTPConnection(host, settings.watch_port, timeout=10)
    try:
        connection.request("POST", path, msgspec.json.encode(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        members = msgspec.json.decode(text, type=_Members)
    except (OSError, ValueError) as error:
        where = join(host, settings.watch_port)
        raise HoldfastError(f"the watcher at {where} does not answer: {error}") from error
    if answer.status >= 400:
        raise HoldfastError(members.detail or f"status {answer.status}")
    return msgspec.Raw(text)
