"""What the page is told of a table: its answers in words, and what it needs for an attack."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from tests.asgi import client_of
from tests.service import tables

LOCAL = {"Host": "127.0.0.1:8080"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    state: Path = tmp_path_factory.mktemp("wine")
    tables.publish_table(state / "registry", tables.wine())
    with tables.served(state) as app:
        yield client_of(app)


def words(client: Client, row: dict[str, Any]) -> list[str]:
    body = {"instances": [row]}
    told = client.post("/console/predict?told=1", json=body, headers=LOCAL).get_json()
    return [each["text"] for each in told["blocks"] if each["t"] == "p"]


def test_a_number_far_out_of_range_is_never_like_training_on_the_page(client: Client) -> None:
    data = tables.wine()
    usual = tables.as_objects(data, data.test.x[:1])[0]
    hue = next(c for c in data.schema.columns if c.name == "hue")
    far = usual | {"hue": hue.high + 1.1 * (hue.high - hue.low)}
    assert any(each.startswith("No: a number lies farther outside") for each in words(client, far))
    assert not any(each.startswith("No: a number") for each in words(client, usual))


def test_the_page_gets_the_shares_that_its_attack_may_move_columns_by(client: Client) -> None:
    told = client.get("/console/examples", headers=LOCAL).get_json()
    kinds = [column["kind"] for column in told["input"]["columns"]]
    assert told["shares"] == [[1.0, 1.0] if kind == "numeric" else [0.0, 0.0] for kind in kinds]
    assert told["box"] == "Held: categories and missing values."
