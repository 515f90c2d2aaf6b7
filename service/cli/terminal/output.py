"""Output of commands: tables or JSON on standard output, notes on standard error."""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import click
import msgspec

from models.versions.schema import Manifest

SCHEMA = 1  # of the envelope; a member that is taken away or means something else raises it
ASKED = "holdfast.json"  # in the context's `meta`: whether the command was asked for JSON
RUNNING = "holdfast.command"  # and which one it is


class Envelope(msgspec.Struct, frozen=True):
    """What a command prints once with `--json`: its data, or the sentence that says why not."""

    schema: int
    command: str  # without the program's name: `models list`
    data: Any
    error: str | None = None


def _ask(ctx: click.Context, _: click.Parameter, asked: bool) -> bool:
    ctx.meta.update({ASKED: asked, RUNNING: _command(ctx)})
    return asked


json_option = click.option(
    "--json", "as_json", is_flag=True, callback=_ask,
    help="Print JSON: schema, command, data, error.",
)  # fmt: skip


def emit(value: Any, as_json: bool, text: Callable[[], str]) -> None:
    """Print a value in an envelope of JSON, or its text for people."""
    if as_json:
        _print(Envelope(SCHEMA, _command(click.get_current_context()), value))
    else:
        click.echo(text())


def fail_with_data(sentence: str) -> NoReturn:
    """End with status 1 and a sentence on standard error; the data have been printed already."""
    click.echo(f"holdfast: {sentence}", err=True)
    raise click.exceptions.Exit(1)


def emit_error(ctx: click.Context, sentence: str) -> None:
    """Print the envelope of a command that could not do its work, if it was asked for JSON."""
    if ctx.meta.get(ASKED):
        _print(Envelope(SCHEMA, ctx.meta.get(RUNNING, ""), None, sentence))


def _print(envelope: Envelope) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(envelope), indent=1))


def _command(ctx: click.Context) -> str:
    """The words of the command, without the program's."""
    if ctx.parent is None:
        return ctx.info_name or ""
    return ctx.command_path.removeprefix(ctx.find_root().command_path).strip()


def tell_notes(manifest: Manifest, champion: int | None) -> None:
    """Print notes on a new version on standard error."""
    from models.reporting.shortfalls import too_few_to_flag  # reports need the train extra

    notes = too_few_to_flag(manifest.calibration)
    if champion is not None and champion != manifest.version:
        model = manifest.model
        notes.append(
            f"version {champion} stays champion; `holdfast models promote {model} "
            f"{manifest.version}` makes this one it"
        )
    for note in notes:
        click.echo(f"note: {note}", err=True)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Format a table whose columns are as wide as their widest cell."""
    lines = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
