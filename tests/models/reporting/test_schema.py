"""Laws of the schema of `report.json`: it is current, and what is written validates against it."""

import json
from typing import Any

import jsonschema
import msgspec
import pytest

from models.reporting.schema import FILE, encode_schema
from models.versions.figures import Evaluation
from tests.conftest import Published
from tests.models.report_example import example, read, table_example

SCHEMA: dict[str, Any] = json.loads(FILE.read_bytes())


def problems(report: Any) -> list[str]:
    """What is wrong with a report by the schema in the docs."""
    validator = jsonschema.Draft202012Validator(SCHEMA)
    return [error.message for error in validator.iter_errors(report)]


def test_the_schema_in_the_docs_is_current_and_a_schema() -> None:
    assert FILE.read_bytes() == encode_schema(), "run: python -m models.reporting.schema"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_report_of_a_published_version_validates_and_comes_back(published: Published) -> None:
    encoded = published.bundle.read("report.json")
    assert problems(json.loads(encoded)) == []
    evaluation = msgspec.json.decode(encoded, type=Evaluation)
    assert json.loads(msgspec.json.encode(evaluation)) == json.loads(encoded)


@pytest.mark.parametrize("figures", [example()[1], table_example()[1], read({})])
def test_every_kind_of_evaluation_validates(figures: Evaluation) -> None:
    assert problems(json.loads(msgspec.json.encode(figures))) == []


def test_a_report_that_lacks_or_bends_a_figure_is_refused() -> None:
    whole = json.loads(msgspec.json.encode(example()[1]))
    assert problems({k: v for k, v in whole.items() if k != "clean"})
    assert problems(whole | {"clean": {"value": "high"}})
    assert problems(whole | {"suite": "slow"})
