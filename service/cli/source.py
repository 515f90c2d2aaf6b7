"""Options that say how data are read, the same for every command that takes data."""

import functools
from collections.abc import Callable
from typing import Any

import click

from models.data.records import FORMATS, Source

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
    click.option(
        "--decimal",
        default="",
        metavar="MARK",
        help="Decimal mark of numbers in texts, '.' or ','; found per column by default.",
    ),
    click.option(
        "--missing",
        multiple=True,
        help="Word that means a missing value in columns of texts (may be repeated).",
    ),
    click.option(
        "--drop-rare", is_flag=True, help="Leave out classes with too few rows; refused by default."
    ),
    click.option(
        "--group", default="", help="Column whose equal values belong together, in one part."
    ),
    click.option(
        "--resize",
        default="",
        help="How images of other sizes become one size, as in /predict?resize=.",
    ),
    click.option(
        "--range",
        default="",
        metavar="LOW,HIGH",
        help="Lowest and highest value that a pixel may have; found by default.",
    ),
)
NAMES = tuple(name for name in Source.__struct_fields__ if name not in {"path", "name"})


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as one dictionary `reading` for `data.Source`."""

    @functools.wraps(command)
    def gathered(*args: Any, **kwargs: Any) -> Any:
        reading = {name: kwargs.pop(name) for name in NAMES}
        return command(*args, reading=reading, **kwargs)

    for option in reversed(OPTIONS):
        gathered = option(gathered)
    return gathered
