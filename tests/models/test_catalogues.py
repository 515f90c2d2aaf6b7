"""What exists is said once: commands, documents and tests have the names that there is code for."""

import re

from models.data import catalogue
from models.data.records import FORMATS
from models.nets.catalogue import CATALOGUE as NETS
from models.training.augment import AUGMENTATIONS as AUGMENTING
from models.training.methods import METHODS as TRAINING
from models.training.recipe import AUGMENTATIONS, METHODS
from tests.test_docs import table_rows, text_of


def test_every_format_that_is_offered_has_a_record_and_no_other_has() -> None:
    assert {"auto", "bundled", *catalogue.CATALOGUE} == set(FORMATS)


def test_every_method_and_augmentation_of_a_recipe_is_one_function() -> None:
    assert set(TRAINING) == set(METHODS)
    assert set(AUGMENTING) == set(AUGMENTATIONS)


def documented(page: str, columns: int, heading: str) -> list[tuple[str, ...]]:
    """Rows of the table whose first column has that heading, without their backticks."""
    rows = [tuple(cell.strip("`") for cell in row) for row in table_rows(page, columns)]
    start = next(k for k, row in enumerate(rows) if row[0] == heading) + 2
    ends = (k for k, row in enumerate(rows) if k >= start and not re.match(r"[\w-]+$", row[0]))
    return rows[start : next(ends, len(rows))]


def test_nets_stand_in_their_table() -> None:
    rows = documented("docs/training.md", 3, "--net")
    assert rows[: len(NETS)] == [(net.name, net.kind, net.words) for net in NETS.values()]


def test_methods_stand_in_their_table_and_augmentations_in_the_text() -> None:
    rows = documented("docs/training.md", 3, "--method")
    assert [name for name, *_ in rows[: len(METHODS)]] == list(METHODS)
    (words,) = re.findall(r"`--augment` takes ([^;]*?), any number", text_of("docs/training.md"))
    assert re.findall(r"`(\w+)`", words) == list(AUGMENTATIONS)
