"""`holdfast doctor`: what is set, what is there, and what is missing."""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import time
from pathlib import Path

import click
import msgspec
import sqlalchemy as sa

from models.base.errors import BundleError, RegistryError
from models.base.schedule import Timetable
from models.versions.bundle import Bundle
from models.versions.registry import Registry
from monitoring.counting import query_embedding
from monitoring.records.database import engine_url
from service.access.guard import exposure
from service.cli import start_checks
from service.cli.serve import ask_ready
from service.cli.terminal.output import emit, json_option, table
from service.configuration import sizing
from service.configuration import table as table_of
from service.configuration.addresses import near, url_of
from service.configuration.checks import hide_password
from service.configuration.model_specs import ModelSpec
from service.configuration.settings import Settings
from service.fleet.overrides import Repository
from service.web.errors import SettingsError
from service.web.origins import is_exposed

DUE_TIMES = 3  # shown of the schedule
CONNECT_SECONDS = 3
Value = str | int | float | bool | None  # of a setting
LIMITED = ("rows in a request", "runs at once in a worker")


class Finding(msgspec.Struct, frozen=True):
    """The result of one check; an `optional` one may fail."""

    what: str
    ok: bool
    detail: str
    optional: bool = False


class SettingValue(msgspec.Struct, frozen=True):
    """A setting and its value."""

    name: str
    value: Value
    unit: str
    help: str


class Report(msgspec.Struct, frozen=True):
    """The settings and the results of all checks."""

    settings: list[SettingValue]
    findings: list[Finding]


@click.command()
@json_option
@click.pass_obj
def doctor(settings: Settings, as_json: bool) -> None:
    """Say what is set, what is there and what is missing; 1 if something needed is.

    \b
    Example:
      holdfast doctor
    """
    report = Report(
        [
            SettingValue(each.variable, _show_setting(settings, each.name), each.unit, each.help)
            for each in table_of.table()
        ],
        [
            *_packages(),
            *_settings(settings),
            *_service(settings),
            *_state(settings),
            *_running(settings),
        ],
    )
    emit(report, as_json, lambda: _text(report))
    if not all(finding.ok or finding.optional for finding in report.findings):
        raise click.exceptions.Exit(1)


def _text(report: Report) -> str:
    settings = [msgspec.structs.astuple(each) for each in report.settings]
    findings = [("ok" if f.ok else "MISSING", f.what, f.detail) for f in report.findings]
    return (
        table(("setting", "value", "unit", "meaning"), settings)
        + "\n\n"
        + table(("", "what", "detail"), findings)
    )


def _show_setting(settings: Settings, name: str) -> Value:
    """Return the value of a setting, without a password."""
    value: Value = getattr(settings, name)
    return hide_password(str(value)) if name == "database_url" else value


def _settings(settings: Settings) -> list[Finding]:
    """Check what the settings name: hosts, files, database, schedule."""
    findings = [
        Finding(f"setting {each.name}", each.fault is None, each.detail)
        for each in start_checks.look(settings)
    ]
    try:
        start_checks.check_ports(settings)
    except SettingsError as error:
        findings.append(Finding("ports", False, str(error), optional=True))
    if settings.schedule:
        timetable = Timetable(settings.schedule, settings.timezone)
        due, times = time.time(), []
        for _ in range(DUE_TIMES):
            due = timetable.following(due)
            times.append(timetable.render_time(due))
        detail = f"{timetable.line} in {timetable.describe_zone()}: {', '.join(times)}, ..."
        findings.append(Finding("schedule", True, detail))
    findings.append(_database(settings.database_url))
    return findings


def _database(url: str) -> Finding:
    """Check whether the database answers; a missing SQLite file is not created."""
    what = "database"
    try:
        address = engine_url(url)
        if address.get_backend_name() == "sqlite":
            return Finding(what, *_writable(Path(address.database or "")))
        engine = sa.create_engine(address, connect_args={"connect_timeout": CONNECT_SECONDS})
        with engine.connect():
            pass
        engine.dispose()
    except (sa.exc.SQLAlchemyError, ImportError, ValueError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or type(error).__name__).split())
        return Finding(what, False, f"{hide_password(url)} does not answer: {reason}")
    return Finding(what, True, f"{hide_password(url)} answers")


def _writable(file: Path) -> tuple[bool, str]:
    """Check whether a file can be written, or made together with its directory."""
    place = file
    while not place.exists():
        place = place.parent
    return os.access(place, os.W_OK), f"SQLite file {file}"


def _packages() -> list[Finding]:
    findings = [Finding("python", sys.version_info >= (3, 11), sys.version.split()[0])]
    for name in ("onnxruntime", "flask", "gunicorn", "dbos", "prometheus-client"):
        findings.append(Finding(name, True, importlib.metadata.version(name)))
    if importlib.util.find_spec("gunicorn_h1c") is not None:
        findings.append(Finding("gunicorn_h1c", True, "it reads HTTP, instead of gunicorn"))
    for name in ("torch", "onnx", "sklearn"):
        there = importlib.util.find_spec(name) is not None
        detail = "for training and retraining" + ("" if there else ": pip install '.[train]'")
        findings.append(Finding(name, there, detail, optional=True))
    return findings


def _service(settings: Settings) -> list[Finding]:
    """Report the sizing of the service, and who may call it."""
    here, sizes = sizing.machine(), sizing.model_sizes(settings.registry_dir)
    by_default = sizing.choose(here, sizes)
    set_to = sizing.Sizing(settings.workers, settings.threads, settings.model_threads)
    detail = f"{sizing.words(set_to)} ({here.why}, {here.memory_bytes / 2**30:.1f} GiB)"
    if set_to != by_default:
        detail += f"; set so, left out it would be {sizing.words(by_default)}"
    danger = exposure(settings)
    who = "the network, with tokens" if is_exposed(settings.host) else "this machine only"
    return [
        Finding("workers and threads", True, detail),
        Finding("callers", danger is None, danger or who, optional=True),
    ]


def _models(settings: Settings, registry: Registry) -> list[Finding]:
    """Check the models that are named, loaded or unloaded, and their limits."""
    findings = [_check_named_model(spec, registry) for spec in settings.model_specs]
    try:
        for name, loaded in Repository(registry.root).read().models.items():
            state = "loaded beside the named ones" if loaded else "unloaded, until it is loaded"
            findings.append(Finding(f"model {name}", True, f"{state} (V2 repository call)"))
    except RegistryError as error:
        findings.append(Finding("loaded and unloaded models", False, str(error)))
    for name, limits in settings.limits.items():
        own = [f"{n} {what}" for n, what in zip(limits, LIMITED, strict=True) if n is not None]
        findings.append(Finding(f"limits of {name}", True, ", ".join(own)))
    return findings


def _check_named_model(spec: ModelSpec, registry: Registry) -> Finding:
    """Check whether a named model can be served, and at which version."""
    what, detail = f"model {spec.name}", "follows its champion"
    try:
        champion = registry.aliases(spec.name).champion
        if spec.version is not None:
            bundle = registry.open(spec.name, str(spec.version))
            detail = f"pinned: {bundle.name}, every sha256 right; the loop does not replace it"
            if champion not in (None, spec.version):
                detail += f" (champion is {champion})"
    except (BundleError, RegistryError) as error:
        return Finding(what, False, str(error))
    return Finding(what, True, detail)


def _state(settings: Settings) -> list[Finding]:
    state, registry = Path(settings.state), Registry(settings.registry_dir, settings.keys)
    base = state if state.exists() else state.absolute().parent
    writable = base.is_dir() and os.access(base, os.W_OK)
    names = registry.models()
    free = shutil.disk_usage(base).free / 2**30
    findings = [
        Finding("state directory", writable, f"{state.absolute()} ({free:.1f} GiB free)"),
        Finding("models", bool(names), ", ".join(names) or "none: holdfast train digits"),
    ]
    findings += _models(settings, registry)
    for model in names:
        try:
            champion = registry.open(model)
            findings.append(
                Finding(f"champion of {model}", True, f"{champion.name}, every sha256 right")
            )
            findings.append(_queries(settings, champion))
        except (BundleError, RegistryError) as error:
            findings.append(Finding(f"champion of {model}", False, str(error)))
    return findings


def _queries(settings: Settings, champion: Bundle) -> Finding:
    """Check whether query attacks on a model are detected."""
    what = f"query detection of {champion.manifest.model}"
    if settings.query_detection == "off":
        return Finding(what, False, "off: HOLDFAST_QUERY_DETECTION", optional=True)
    if query_embedding.read(champion.manifest.input, champion.reference) is None:
        detail = f"{champion.name} has no threshold for it: train or wrap the model anew"
        return Finding(what, False, detail, optional=True)
    return Finding(what, True, f"the last queries of {settings.query_clients} clients are kept")


def _running(settings: Settings) -> list[Finding]:
    places = {
        "service": url_of(near(settings.host), settings.port),
        "watcher": url_of(near(settings.watch_host), settings.watch_port),
    }
    return [
        Finding(name, there, f"{url}/readyz" if there else f"{url}/readyz {status}", optional=True)
        for name, url in places.items()
        for there, status in [ask_ready(url)]
    ]
