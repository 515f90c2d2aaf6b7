"""`holdfast doctor`: what is wrong here, and what to do about it."""

import time
from collections.abc import Callable, Iterable, Iterator

import click
import msgspec

from models.base.schedule import Timetable
from service.cli.checks import start_checks
from service.cli.checks.findings import Finding, failed, noted, passed
from service.cli.checks.machine import check_clock, check_disk, check_packages, check_permission
from service.cli.checks.running import (
    check_running,
    check_sizing,
    check_telemetry,
    variable_of,
)
from service.cli.checks.stored import check_database, check_models, check_tokens
from service.cli.terminal.output import emit, json_option, table
from service.configuration import settings_table
from service.configuration.checks import hide_password
from service.configuration.settings import Settings
from service.web.errors import SettingsError

NOT_LOOKED_AT = "correct what is named there (often permissions), then run holdfast doctor again"
DUE_TIMES = 3  # shown of the schedule
Value = str | int | float | bool | None  # of a setting


class SettingValue(msgspec.Struct, frozen=True):
    """A setting and its value."""

    name: str
    value: Value
    unit: str
    help: str


class Report(msgspec.Struct, frozen=True):
    """The results of all checks; the settings where they were asked for."""

    findings: list[Finding]
    settings: list[SettingValue] | None = None


@click.command()
@click.option("--all", "show_all", is_flag=True, help="Show the settings in force, too.")
@json_option
@click.pass_obj
def doctor(settings: Settings, show_all: bool, as_json: bool) -> None:
    """Check this place: what is wrong comes first, each with what to do; 1 if it is needed.

    \b
    Example:
      holdfast doctor
      holdfast doctor --all --json
    """
    report = Report(list(find(settings)), _settings(settings) if show_all else None)
    emit(report, as_json, lambda: _text(report))
    if _needed(report):
        raise click.exceptions.Exit(1)


def find(settings: Settings) -> Iterator[Finding]:
    """Do every check, from the machine to what runs on it; one that fails takes no other along."""
    checks: tuple[tuple[str, Callable[[], Finding | Iterable[Finding]]], ...] = (
        ("packages", check_packages),
        ("clock", lambda: check_clock(settings)),
        ("disk", lambda: check_disk(settings)),
        ("permission", lambda: check_permission(settings)),
        ("settings", lambda: _check_settings(settings)),
        ("database", lambda: check_database(settings.database_url)),
        ("models", lambda: check_models(settings)),
        ("tokens", lambda: check_tokens(settings)),
        ("workers and threads", lambda: check_sizing(settings)),
        ("telemetry", lambda: check_telemetry(settings)),
        ("service and watcher", lambda: check_running(settings)),
    )
    for what, check in checks:
        try:
            found = check()
            yield from (found,) if isinstance(found, Finding) else found
        except Exception as error:  # whatever is wrong here is what somebody wants to know
            reason = str(error) or type(error).__name__
            yield failed(what, f"could not be looked at to its end: {reason}", NOT_LOOKED_AT)


def _check_settings(settings: Settings) -> Iterator[Finding]:
    """What the settings name: hosts, files, drivers, ports, the schedule."""
    for each in start_checks.look(settings):
        what = f"setting {each.name}"
        if each.fault is None:
            yield passed(what, each.detail)
        else:
            fix = f"correct {variable_of(each.name)}, or what it names"
            yield failed(what, each.detail, fix)
    for fault in start_checks.grpc_faults(settings):
        fix = f"correct HOLDFAST_{fault.name.upper()}, or what it names"
        yield failed(f"setting {fault.name}", str(fault), fix)
    try:
        start_checks.check_ports(settings)
    except SettingsError as error:
        yield noted("ports", str(error), "HOLDFAST_WATCH_PORT=9108")
    if settings.schedule:
        yield _check_schedule(settings)


def _check_schedule(settings: Settings) -> Finding:
    timetable = Timetable(settings.schedule, settings.timezone)
    due, times = time.time(), []
    for _ in range(DUE_TIMES):
        due = timetable.following(due)
        times.append(timetable.render_time(due))
    detail = f"{timetable.line} in {timetable.describe_zone()}: {', '.join(times)}, ..."
    return passed("schedule", detail)


def _settings(settings: Settings) -> list[SettingValue]:
    return [
        SettingValue(each.variable, _show_setting(settings, each.name), each.unit, each.help)
        for each in settings_table.table()
    ]


def _show_setting(settings: Settings, name: str) -> Value:
    """Return the value of a setting, without a password."""
    value: Value = getattr(settings, name)
    return hide_password(str(value)) if name == "database_url" else value


def _needed(report: Report) -> list[Finding]:
    return [each for each in report.findings if not each.ok and not each.optional]


def _text(report: Report) -> str:
    """What is wrong first, each with its fix; then what is only noted; then what is well."""
    wrong = _needed(report)
    notes = [each for each in report.findings if not each.ok and each.optional]
    well = [each for each in report.findings if each.ok]
    lines = [f"WRONG  {each.what}: {each.detail}\n       fix: {each.fix}" for each in wrong]
    lines += [f"note   {each.what}: {each.detail}\n       fix: {each.fix}" for each in notes]
    parts = ["\n".join(lines)] if lines else []
    parts.append(table(("", "checked", "found"), [("ok", each.what, each.detail) for each in well]))
    if report.settings is not None:
        rows = [msgspec.structs.astuple(each) for each in report.settings]
        parts.append(table(("setting", "value", "unit", "meaning"), rows))
    parts.append(
        f"{len(wrong)} wrong, {len(notes)} to note, {len(well)} well"
        + ("" if report.settings is not None else "; --all shows the settings")
    )
    return "\n\n".join(parts)
