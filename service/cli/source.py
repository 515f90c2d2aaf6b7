"""Options that say how data are read, the same for every command that takes data."""

import functools
from collections.abc import Callable
from typing import Any

import click

FORMATS = ["auto", "bundled", "npz", "idx", "folder", "parquet", "csv"]
OPTIONS = (
    click.option("--label", default="", help="Column or array of the labels; found by itself."),
    click.option(
        "--format", type=click.Choice(FORMATS), default="auto", help="How the data are read."
    ),
    click.option("--test", default="", help="A separate test part; else some rows are split off."),
    click.option("--categorical", multiple=True, help="A column of numbers to take as categories."),
    click.option("--ignore", multiple=True, help="A column to leave out."),
    click.option("--delimiter", default="", help="What separates the columns of a CSV."),
)
NAMES = ("label", "format", "test", "categorical", "ignore", "delimiter")


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as one dictionary `reading` for `data.Source`."""

    @functools.wraps(command)
    def gathered(*args: Any, **kwargs: Any) -> Any:
        reading = {name: kwargs.pop(name) for name in NAMES}
        return command(*args, reading=reading, **kwargs)

    for option in reversed(OPTIONS):
        gathered = option(gathered)
    return gathered
