"""Output of commands: tables or JSON on standard output, progress on standard error."""

import math
import sys
import time
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


class Bar:
    """A bar with the time left on a terminal, a line every few seconds elsewhere."""

    def __init__(self, what: str, *, every_seconds: float = 5.0) -> None:
        self.what = what
        self.first: int | None = None  # what an earlier run had done: the rate is of this one
        self._every = every_seconds
        self._started = self._told = time.monotonic()
        self._ended = False
        self._terminal = sys.stderr.isatty()

    def show(self, done: int, total: int, words: str) -> None:
        """Show progress; call it for every step or for some. The end is shown once."""
        now, last = time.monotonic(), done >= total
        if self._ended and last:
            return
        self._ended = last
        if not last and now - self._told < (0.1 if self._terminal else self._every):
            return
        self._told = now
        left = (now - self._started) * (total - done) / max(done - (self.first or 0), 1)
        text = f"{self.what}: {words}, {left:.0f} s left"
        if self._terminal:
            full = 24 * done // max(total, 1)
            text = f"\r[{'#' * full}{'.' * (24 - full)}] {text:<70}"
        click.echo(text, err=True, nl=not self._terminal or last)


class TrainingBar(Bar):
    """The progress of a training: steps and loss."""

    def __call__(self, step: int, steps: int, loss: float) -> None:
        """Told first of the steps that an earlier run had done, if any (the loss is NaN then)."""
        if self.first is None:
            self.first = step if math.isnan(loss) else 0
            if self.first:
                click.echo(f"{self.what}: goes on after step {step} of {steps}", err=True)
                return
        self.show(step, steps, f"{step}/{steps}, loss {loss:.3f}")
