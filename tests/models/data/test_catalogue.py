"""Laws of the list of formats: each is complete, and the page says what the list says."""

import importlib
from pathlib import Path
from typing import get_args

import pytest

from models.data.catalogue import CATALOGUE, formats_with
from models.data.records import Format, Source

PAGE = Path(__file__).parents[3] / "docs" / "data.md"


def test_every_format_that_can_be_named_has_a_record() -> None:
    assert {*CATALOGUE, "auto", "bundled"} == set(get_args(Format))


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_record_has_a_reader_options_and_a_row_on_the_page(name: Format) -> None:
    record = CATALOGUE[name]
    assert callable(importlib.import_module(f"models.data.formats.{record.reader}").read)
    assert record.options <= set(Source.__struct_fields__)
    assert f"\n| `{name}` | {record.looks} | {record.labels} |\n" in PAGE.read_text("utf-8")


def test_suffixes_are_of_one_format() -> None:
    suffixes = [suffix for record in CATALOGUE.values() for suffix in record.suffixes]
    assert len(suffixes) == len(set(suffixes))


def test_options_of_tables_are_for_every_format_of_tables() -> None:
    assert formats_with("categorical") == ("npz", "parquet", "csv", "jsonl")
    assert formats_with("delimiter") == ("csv",)
