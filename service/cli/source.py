"""Options that say how data are read, the same for every command that takes data."""

import functools
from collections.abc import Callable
from typing import Any

import click

from models.data.records import FORMATS

OPTIONS = (
    click.option(
        "--label",
        default="",
        help="Label column or array (IDX: file of labels); found by its name by default.",
    ),
    click.option(
        "--format",
        type=click.Choice(FORMATS),
        default="auto",
        help="How to read DATA; told from the path by default.",
    ),
    click.option(
        "--test",
        default="",
        help="Path of a separate test part; found beside DATA or split off by default.",
    ),
    click.option(
        "--categorical",
        multiple=True,
        help="Column of numbers to take as categories (may be repeated).",
    ),
    click.option("--ignore", multiple=True, help="Column to leave out (may be repeated)."),
    click.option(
        "--delimiter", default="", help="What separates the columns of a CSV; found by default."
    ),
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
