"""`holdfast drift`: what moved, what is known about the traffic, and what is normal from now on."""

import time
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from models.base.errors import HoldfastError
from models.versions.registry import Registry
from monitoring.evidence.explanation import Explanation, histogram_text
from monitoring.evidence.labels.watch import Harm
from monitoring.evidence.stream import Stream
from monitoring.loop.deciding.waits import Wait, waits_text
from monitoring.records.store import RecordStore
from monitoring.watching.acceptance import AcceptanceError, history_path
from monitoring.watching.drift_status import DriftStatus, Learnt, describe_drift
from monitoring.watching.history import History
from service.cli.changes import actor, check_with, reason_option
from service.cli.terminal.output import emit, json_option, table
from service.cli.waiting import NOT_TOLD, read_harm, read_waits
from service.configuration.settings import Settings
from service.watcher.acceptance import accept as accept_period
from service.watcher.acceptance import read_watched, undo
from service.watcher.bodies import AcceptBody, length_of_time, time_at


class DriftReport(DriftStatus, frozen=True, kw_only=True):
    """How the evidence of a model stands, and what its labels say; or why that is not known.

    `waits` says why the model is not retrained yet; None: that is not known.
    """

    harm: Harm | None = None
    waits: list[Wait] | None = None
    fault: str | None = None


@click.group()
def drift() -> None:
    """Show what moved, or accept it: this is normal now.

    \b
    Example:
      holdfast drift show digits
    """


@drift.command()
@click.argument("model", required=False)
@json_option
@click.pass_obj
def show(settings: Settings, model: str | None, as_json: bool) -> None:
    """The evidence: what it promises, what moved and when, what was learnt about the traffic.

    Without MODEL: of all models, also where one of them is not known.

    \b
    Example:
      holdfast drift show digits
    """
    registry = Registry(settings.registry_dir, settings.keys)
    if model is not None:
        registry.aliases(model)  # an unknown model is told
    names = registry.models() if model is None else (model,)
    reports = []
    for name in names:
        try:
            reports.append(_report(settings, registry, name))
        except HoldfastError as error:
            if model is not None:
                raise
            reports.append(DriftReport(model=name, fault=str(error)))
    value = reports if model is None else reports[0]
    emit(value, as_json, lambda: "\n\n".join(map(_text, reports)) or "no models yet")


@drift.command()
@click.argument("model")
@click.option("--since", callback=check_with(time_at), help="RFC 3339, as 2026-12-24T18:00:00Z.")
@click.option("--until", callback=check_with(time_at), help="RFC 3339; now, if left out.")
@click.option(
    "--cycle",
    default="24h",
    callback=check_with(length_of_time),
    help="How long the traffic takes to show all that is normal: 90m, 24h, 7d.",
)
@click.option("--expected", type=int, help="The version that shall be watched; the present one.")
@click.option("--undo", "undone", is_flag=True, help="Take back what was accepted.")
@reason_option()
@json_option
@click.pass_obj
def accept(
    settings: Settings,
    model: str,
    since: float | None,
    until: float | None,
    cycle: float,
    expected: int | None,
    undone: bool,
    reason: str,
    as_json: bool,
) -> None:
    """This is normal now: later traffic is compared with the traffic of a recorded period.

    Without --since: from the end of the last alarm's onset on. An alarm that is on is over with the
    watcher's next look. Evidence of harm goes on as before. Classes that come and go within a cycle
    alarm again, unless the period spans a whole one.

    \b
    Example:
      holdfast drift accept digits --reason "the new scanner is here to stay"
    """
    registry = Registry(settings.registry_dir, settings.keys)
    registry.aliases(model)
    if undone:
        if since is not None or until is not None:
            raise click.UsageError("--undo takes neither --since nor --until")
        state = undo(registry, model, reason, actor())
    else:
        stream = read_watched(_folder(settings), registry, model, c=settings.drift_c)
        wish = AcceptBody(since, until, cycle, expected, reason=reason)
        history = _read_history(settings, stream)
        state = accept_period(registry, stream, history, wish, actor(), time.time())
    emit(state, as_json, lambda: state.note)


def _folder(settings: Settings) -> Path:
    return Path(settings.state) / "watch"


def _read_history(settings: Settings, stream: Stream) -> History:
    path = history_path(_folder(settings), stream.model, stream.version)
    try:
        return History.read(path)
    except (OSError, ValueError) as error:
        raise AcceptanceError([f"{path} is not readable: {error}"]) from None


def _report(settings: Settings, registry: Registry, model: str) -> DriftReport:
    stream = read_watched(_folder(settings), registry, model, c=settings.drift_c)
    records = RecordStore(settings.database_url, later=True)
    history = _read_history(settings, stream)
    try:
        status = describe_drift(stream, history)
        harm = read_harm(settings, stream, records)
    except NOT_TOLD as error:
        words = f"the evidence of {model} {stream.version} cannot be told"
        raise HoldfastError(f"{words}: {type(error).__name__}: {error}") from error
    waits = read_waits(settings, registry, records, stream, harm)
    return DriftReport(**msgspec.structs.asdict(status), harm=harm, waits=waits)


def _text(report: DriftReport) -> str:
    if report.fault is not None:
        return f"{report.model}: not known: {report.fault}"
    assert report.harm is not None
    lines = [f"{report.model} {report.version}: {report.promise}", *_compared_with(report)]
    lines += ["", *_alarm(report), "", _evidence(report), "", report.harm.words]
    lines += [f"  {report.harm.doubt}"] if report.harm.doubt else []
    lines += [f"  {report.harm.promise}"]
    lines += ["", waits_text(report.waits)] if report.waits is not None else []
    lines += ["", *_learnt(report.learnt)]
    return "\n".join(lines)


def _compared_with(report: DriftReport) -> list[str]:
    if report.accepted is None:
        return [f"compared with the reference of version {report.version}"]
    return [f"compared with {report.accepted.words()}"]


def _alarm(report: DriftReport) -> list[str]:
    last = report.last_alarm
    if last is None and report.alarm is None:
        return ["no alarm since this version is watched"]
    if last is None:  # it could not be explained
        assert report.alarm is not None
        return [f"alarm on: {report.alarm.words}"]
    on = report.alarm is not None
    lines = [
        f"alarm {'on' if on else 'over'}, raised {_clock(last.raised_at)}, version {last.version}:",
        last.words,
        _onset(last),
    ]
    lines += [report.harmless] if report.harmless else []
    lines += ["", histogram_text(last)]
    movers = [(f"{m.id}/{m.row}", _clock(m.at), m.cell, f"{m.gain:.2f}") for m in last.movers]
    lines += ["", table(("request", "at", "its value", "gain"), movers)] if movers else []
    return [*lines, *([last.note] if last.note else [])]


def _onset(last: Explanation) -> str:
    """When the change began, as a set of requests and of times."""
    onset, times = last.onset, (last.first_at, last.last_at)
    known = [_clock(at) for at in times if at is not None]
    return (
        f"request {last.requests:,}; it began after request {onset.first:,} to {onset.last:,} "
        f"({last.confidence:.0%} sure), most likely after {onset.likely:,}; "
        f"{' to '.join(known) or 'at a time that is not known: the requests were not recorded'}"
    )


def _evidence(report: DriftReport) -> str:
    assert report.evidence_log10 is not None
    bar = f"{report.threshold_log10:.2f}"
    assert report.learnt is not None
    rows = [
        (name, f"{value:.2f}", bar, *(f"{what[name]:.2f}" for what in _bursts(report.learnt)))
        for name, value in report.evidence_log10.items()
    ]
    header = ("channel", "evidence (powers of ten)", "alarms at", "phi", "discounted to")
    return table(header, rows)


def _bursts(learnt: Learnt) -> tuple[dict[str, float], dict[str, float]]:
    return learnt.phi, learnt.discount


def _learnt(learnt: Learnt | None) -> list[str]:
    """What was learnt about the traffic, line by line."""
    assert learnt is not None
    repeats = "not known" if learnt.repeats is None else f"{learnt.repeats:.1%}"
    recorded = "nothing yet"
    if (span := learnt.recorded) is not None:
        recorded = f"{span.requests:,} requests, {_clock(span.since)} to {_clock(span.until)}"
    band = "not known: no whole cycle was accepted"
    if learnt.class_band is not None:
        band = "shares of classes may come and go as in the accepted period"
    return [
        "what was learnt about this traffic:",
        f"  bursts: counts vary {max(learnt.phi.values()):.2f} times as much as those of "
        "independent requests (the largest phi)",
        f"  repeats of a client within a minute: {repeats}",
        f"  cycle: {band}",
        f"  recorded: {recorded}",
    ]


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
