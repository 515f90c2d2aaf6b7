"""How commands talk: tables or JSON on standard output, progress on standard error."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import click
import msgspec

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def emit(value: Any, as_json: bool, text: Callable[[], str]) -> None:
    """Print plain data as JSON, or the text for people."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(value), indent=1))
    else:
        click.echo(text())


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns as wide as their widest entry."""
    lines = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


class Progress:
    """A bar on a terminal, a line every few seconds elsewhere."""

    def __init__(self, what: str, *, every_seconds: float = 5.0) -> None:
        self._what = what
        self._every = every_seconds
        self._started = self._told = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def __call__(self, step: int, steps: int, loss: float) -> None:
        """Told of every step (or of some)."""
        now = time.monotonic()
        if not self._terminal and step < steps and now - self._told < self._every:
            return
        self._told = now
        left = (now - self._started) * (steps - step) / max(step, 1)
        text = f"{self._what}: {step}/{steps}, loss {loss:.3f}, {left:.0f} s left"
        if self._terminal:
            full = 24 * step // steps
            text = f"\r[{'#' * full}{'.' * (24 - full)}] {text}   "
        click.echo(text, err=True, nl=not self._terminal or step == steps)
