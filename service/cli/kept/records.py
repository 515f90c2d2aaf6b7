"""`holdfast records`: what is recorded of the traffic, how much room it takes, and its removal."""

from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from models.base.errors import HoldfastError
from models.versions.registry import Registry
from models.versions.registry_state import show_time
from monitoring.records.keeping.export import export_parquet
from monitoring.records.keeping.figures import ModelFigures, measure_models, measure_room
from monitoring.records.keeping.hashes import forget_hashes, note_hashes, read_hashes
from monitoring.records.keeping.purge import (
    Which,
    count_chosen,
    labels_of_client,
    newest_number,
    purge,
)
from monitoring.records.keeping.removal import Removed
from monitoring.records.store import RecordStore
from monitoring.records.writing import sqlite_file
from service.cli.changes import actor, check_with, reason_option
from service.cli.kept.copies import find_copies
from service.cli.terminal.output import emit, fail_with_data, json_option, table
from service.configuration.settings import Settings
from service.watcher.bodies import time_at
from service.watcher.reasons import NO_REASON

NOTHING = "nothing is recorded of that"
LOG_FULL = "the log of the database may still hold purged pages, since somebody read it"
TIME = "RFC 3339, as 2026-12-24T18:00:00Z."
since_option = click.option("--since", callback=check_with(time_at), help=f"From then on; {TIME}")
until_option = click.option("--until", callback=check_with(time_at), help=f"Before then; {TIME}")


@click.group()
def records() -> None:
    """Measure, export and purge what is recorded of the traffic.

    \b
    Example:
      holdfast records stats
    """


@records.command()
@json_option
@click.pass_obj
def stats(settings: Settings, as_json: bool) -> None:
    """How much is kept of each model, how old it is, and the room that it takes.

    \b
    Example:
      holdfast records stats
    """
    store = _open_store(settings)
    figures, room = measure_models(store.database), measure_room(store.folder)
    store.close()
    value = {
        "models": [_plain(each) for each in figures],
        "room": room._asdict(),
        "limits": {
            "rows": settings.record_rows_kept,
            "bytes": settings.record_bytes_kept,
            "days": settings.record_days_kept,
            "models": settings.record_limits,
            "sample": settings.record_sample,
            "inputs": settings.keep_inputs,
        },
    }

    def text() -> str:
        names = ("model", "requests", "rows", "labels", "input bytes", "oldest", "newest")
        rows = [(f.model, f.requests, f.instances, f.labels, f.bytes, *_period(f)) for f in figures]
        lines = [table(names, rows) if rows else "nothing is recorded yet"]
        lines += [_removed_words(each) for f in figures for each in f.removed]
        lines += [
            f"{f.model}: {f.without_input} rows have no input: nothing can be retrained on them"
            for f in figures
            if f.without_input
        ]
        parts = ((name, size) for name, size in room._asdict().items() if size is not None)
        lines.append("bytes on disk: " + (", ".join(f"{n} {s:,}" for n, s in parts) or "unknown"))
        return "\n".join(lines)

    emit(value, as_json, text)


def _open_store(settings: Settings) -> RecordStore:
    """The store of records. Raises HoldfastError where there is none: none is made."""
    file = sqlite_file(settings.database_url)
    if file is not None and not file.exists():
        raise HoldfastError(
            f"there are no records: {file} does not exist; is HOLDFAST_STATE, or "
            "HOLDFAST_DATABASE_URL, that of the service?"
        )
    return RecordStore(settings.database_url, later=True)


def _plain(figures: ModelFigures) -> dict[str, Any]:
    removed = [each._asdict() for each in figures.removed]
    period = dict(zip(("oldest", "newest"), _period(figures), strict=True))
    return figures._asdict() | {"removed": removed} | period


def _period(figures: ModelFigures) -> tuple[str | None, str | None]:
    if not figures.requests:
        return None, None
    return show_time(figures.oldest), show_time(figures.newest)


def _removed_words(removed: Removed) -> str:
    return (
        f"{removed.model}: removed so far ({removed.why}): {removed.instances} rows, "
        f"{removed.labels} of them with a label"
    )


@records.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--model", help="Of this model only.")
@since_option
@until_option
@click.option("--inputs/--no-inputs", default=True, help="Write the raw inputs, too.")
@json_option
@click.pass_obj
def export(
    settings: Settings,
    file: Path,
    model: str | None,
    since: float | None,
    until: float | None,
    inputs: bool,
    as_json: bool,
) -> None:
    """Write records with their labels to a Parquet file; only you can read it.

    It takes pyarrow, which comes with holdfast[train].

    \b
    Example:
      holdfast records export digits.parquet --model digits
    """
    store = _open_store(settings)
    which = Which(model=model, since=since, until=until)
    count = export_parquet(store.database, store.folder, which, file, inputs=inputs)
    store.close()
    value = {"file": str(file), "rows": count, "bytes": file.stat().st_size}
    emit(value, as_json, lambda: f"{count} rows are in {file}")


@records.command("purge")
@click.option("--id", "request_id", help="Of the request with this id.")
@click.option("--client", help="Of what this client asked: `token NAME`, or an address.")
@click.option("--model", help="Of this model.")
@click.option("--before", callback=check_with(time_at), help=f"Of before then; {TIME}")
@click.option("--all", "everything", is_flag=True, help="Of everything.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@reason_option(default="")
@json_option
@click.pass_obj
def purge_(
    settings: Settings,
    request_id: str | None,
    client: str | None,
    model: str | None,
    before: float | None,
    everything: bool,
    dry_run: bool,
    yes: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Remove records with inputs and labels for good: those to which all that is given applies.

    The reason stands in the audit of each model. Copies in versions (lineage.npz) and in files of
    jobs are looked for; where some stay, they are named, and the status is 1. The same call again
    looks again, by hashes that are kept until no copy is left.

    \b
    Example:
      holdfast records purge --client "token shop" --reason "asked by the client"
    """
    which = Which(request_id, client, model, None, before)
    if everything is (which != Which()):
        raise click.UsageError("give --id, --client, --model or --before, or --all alone")
    if not dry_run and reason == NO_REASON:
        raise click.UsageError("give a --reason: it stands in the audit")
    store = _open_store(settings)
    which = which._replace(last=newest_number(store.database))  # not what comes meanwhile
    chosen = count_chosen(store.database, which)
    lines = [f"{c.model}: {c.instances} rows, {c.labels} of them with a label" for c in chosen]
    if dry_run:
        store.close()
        nothing = {"chosen": [c._asdict() for c in chosen], "removed": [], "copies": []}
        emit(nothing, as_json, lambda: "\n".join(lines) or NOTHING)
        return
    if chosen and not yes:
        click.confirm("\n".join([*lines, "Remove them for good?"]), abort=True, err=True)
    registry = Registry(settings.registry_dir, settings.keys)
    purges = Path(settings.state) / "purges"
    removed, emptied, notes = list[Removed](), True, list[str]()
    if chosen:
        untold = _write_audit(registry, [c.model for c in chosen], f"{_words(which)}: {reason}")
        notes += [f"{name} is not in the registry: its purge is in no audit" for name in untold]
        removed, emptied = purge(store.database, store.folder, which, partial(note_hashes, purges))
    given = 0 if client is None else labels_of_client(store.database, client)
    store.close()
    noted = read_hashes(purges)
    copies = find_copies(settings, registry, noted.hashes)
    left = [copy for copy in copies if not copy.gone]
    if not left and not noted.unknown:
        forget_hashes(noted)
    if not chosen:
        notes.append(f"{NOTHING} now; copies of what was purged before were looked for")
    if not emptied:
        notes.append(f"{LOG_FULL}: it is emptied when service and watcher have stopped")
    if given:
        notes.append(f"{given} labels that the client gave to requests of others stay")
    value: dict[str, Any] = {
        "chosen": [c._asdict() for c in chosen],
        "removed": [r._asdict() for r in removed],
        "copies": msgspec.to_builtins(copies),
        "notes": notes,
    }
    stays = [] if emptied else [LOG_FULL]
    if left:
        stays.append(f"copies of purged rows stay in {', '.join(copy.where for copy in left)}")
    if noted.unknown:
        stays.append(
            f"copies of {noted.unknown} rows cannot be looked for, since their inputs could not be "
            f"read: look for them yourself, then remove {purges}"
        )
    if not chosen and not noted.files:
        raise HoldfastError(f"{NOTHING}, and no hashes are kept: copies cannot be looked for")

    def text() -> str:
        told = [f"{r.model}: removed {r.instances} rows, {r.labels} labels" for r in removed]
        found = [f"{c.where}: {_rows(c.rows)}: {c.advice}" for c in copies]
        return "\n".join([*told, *found, *notes])

    emit(value, as_json, text)
    if stays:
        fail_with_data(f"{'; '.join(stays)}; backups and exports were not looked at")


def _rows(rows: int | None) -> str:
    return "not known how many of the rows" if rows is None else f"{rows} of the rows"


def _words(which: Which) -> str:
    parts = {"id": which.id, "client": which.client, "model": which.model}
    words = [f"{name} {value}" for name, value in parts.items() if value is not None]
    words += [] if which.until is None else [f"before {show_time(which.until)}"]
    return f"records of {' and '.join(words) or 'everything'}"


def _write_audit(registry: Registry, models: list[str], reason: str) -> list[str]:
    """Write the purge into the audits, before it begins; returns models without one."""
    known = set(registry.models())
    for model in models:
        if model in known:
            registry.note(model, "purge", actor=actor(), reason=reason)
    return [model for model in models if model not in known]
