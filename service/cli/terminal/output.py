"""Output of commands: tables or JSON on standard output, notes on standard error."""

from collections.abc import Callable, Sequence
from typing import Any

import click
import msgspec

from models.versions.schema import Manifest

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def emit(value: Any, as_json: bool, text: Callable[[], str]) -> None:
    """Print a value as JSON, or its text for people."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(value), indent=1))
    else:
        click.echo(text())


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
