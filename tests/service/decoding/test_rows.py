import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from models.base.errors import InputError
from models.versions.registry import Registry
from models.versions.runner import Runner
from models.versions.schema import Column, InputSchema
from service.decoding import codec, rows
from service.protocols.v2.codec import decode_infer
from tests.asgi import client_of
from tests.service import tables
from tests.service.decoding.test_codec import decode_instances

MOST = 5
TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)
WORDS = TEXTS.filter(lambda text: text and text == text.strip())
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def schema_of(*columns: Column) -> InputSchema:
    return InputSchema("row", (len(columns),), "float32", 0.0, 1.0, "tabular", columns=columns)


AGE = Column("age", low=0, high=100)
CITY = Column("city", "categorical", categories=("Kiel", "Ulm", "7"))
GAP = Column("gap", missing=True)
KIND = Column("kind", "categorical", categories=("a",), missing=True)
SCHEMA = schema_of(AGE, CITY, GAP, KIND)
ROW = {"age": 31, "city": "Ulm", "gap": None, "kind": "a"}


def body(instances: Any) -> bytes:
    return json.dumps({"instances": instances}).encode()


def decoded(instances: Any, schema: InputSchema = SCHEMA) -> Any:
    return decode_instances(body(instances), schema, MOST)


def refused(instances: Any, schema: InputSchema = SCHEMA) -> InputError:
    with pytest.raises(InputError) as caught:
        decoded(instances, schema)
    return caught.value


@st.composite
def columns(draw: st.DrawFn) -> tuple[Column, ...]:
    names = draw(st.lists(TEXTS, min_size=1, max_size=6, unique=True))
    made = []
    for name in names:
        missing = draw(st.booleans())
        if draw(st.booleans()):
            categories = tuple(draw(st.lists(WORDS, min_size=1, max_size=4, unique=True)))
            made.append(Column(name, "categorical", categories=categories, missing=missing))
        else:
            made.append(Column(name, missing=missing))
    return tuple(made)


def value_of(column: Column) -> st.SearchStrategy[tuple[Any, float]]:
    """What stands in the JSON, and the number that it is in the tensor."""
    if column.kind == "numeric":
        values = (FLOATS | st.integers(-(10**6), 10**6)).map(lambda v: (v, float(v)))
    else:
        places = {text: float(place) for place, text in enumerate(column.categories)}
        texts = st.sampled_from(column.categories) | WORDS
        values = texts.map(lambda text: (text, places.get(text, -1.0)))
    return values | st.just((None, np.nan)) if column.missing else values


@st.composite
def requests(draw: st.DrawFn) -> tuple[InputSchema, list[list[Any]], Any]:
    """A schema, rows of it as lists, and the array that they are."""
    schema = schema_of(*draw(columns()))
    pairs = draw(st.lists(st.tuples(*map(value_of, schema.columns)), min_size=1, max_size=MOST))
    x = np.array([[number for _, number in row] for row in pairs], dtype=np.float32)
    return schema, [[value for value, _ in row] for row in pairs], x


@given(requests(), st.data())
def test_lists_objects_and_v2_codes_give_the_same_array(
    request: tuple[InputSchema, list[list[Any]], Any], data: st.DataObject
) -> None:
    schema, lists, x = request
    names = [column.name for column in schema.columns]
    objects = [
        {name: row[names.index(name)] for name in data.draw(st.permutations(names))}
        for row in lists
    ]
    mixed = [data.draw(st.sampled_from(pair)) for pair in zip(lists, objects, strict=True)]
    for instances in (lists, objects, mixed):
        got = decoded(instances, schema)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, x)
    codes: Any = [[None if np.isnan(v) else v for v in row] for row in x.tolist()]
    if data.draw(st.booleans()):
        codes = [value for row in codes for value in row]
    tensor = {"name": "row", "datatype": "FP32", "shape": list(x.shape), "data": codes}
    asked = decode_infer(json.dumps({"inputs": [tensor]}).encode(), schema, MOST)
    np.testing.assert_array_equal(asked.x, x)


ODD = st.sampled_from([np.nan, np.inf, -np.inf, -1, -2, 0, 0.5, 1, 3, 4, 3e38])


@given(columns().flatmap(lambda c: st.tuples(st.just(c), st.lists(ODD, min_size=len(c)))))
def test_the_quick_check_takes_what_the_schema_takes(
    given: tuple[tuple[Column, ...], list[float]],
) -> None:
    schema = schema_of(*given[0])
    size = len(schema.columns)
    x = np.float32(given[1][: len(given[1]) // size * size]).reshape(-1, size)
    try:
        schema.check(x)
        taken = True
    except InputError:
        taken = False
    assert rows.table_of(schema).fits(x) == taken


def test_a_number_stands_for_the_category_whose_text_it_is() -> None:
    places = [decoded([{**ROW, "city": city}])[0, 1] for city in (7, 7.0, "7", 8, "7.0", "Köln")]
    assert places == [2, 2, 2, -1, 2, -1]


def test_a_number_may_be_sent_as_the_text_that_stands_in_the_file() -> None:
    got = decoded([{**ROW, "age": age, "gap": gap} for age, gap in (("31", "NaN"), (" 3e1 ", ""))])
    np.testing.assert_array_equal(got[:, [0, 2]], [[31, np.nan], [30, np.nan]])


def test_spaces_around_a_text_do_not_count_and_an_empty_one_is_missing() -> None:
    assert decoded([{**ROW, "city": " Ulm\t"}])[0, 1] == 1
    assert np.isnan(decoded([{**ROW, "kind": text} for text in ("", "  ", None)])[:, 3]).all()
    assert refused([{**ROW, "city": " "}]).got == "' '"
    spaced = schema_of(Column("c", "categorical", categories=(" ", "a ", "a")))
    assert decoded([[" "], ["a "], ["a"], [" a"]], spaced)[:, 0].tolist() == [0, 1, 2, 2]


def test_truth_values_are_categories_where_training_had_them() -> None:
    schema = schema_of(Column("c", "categorical", categories=("1", "false", "true")))
    values = [[True], [False], ["true"], [1], ["TRUE"]]
    assert decoded(values, schema)[:, 0].tolist() == [2, 1, 2, 0, 2]


def test_rows_of_numbers_alone_take_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = schema_of(AGE, GAP)
    slow = decoded([{"age": 1, "gap": 2.5}, [3, None]], schema)
    np.testing.assert_array_equal(slow, np.float32([[1, 2.5], [3, np.nan]]))
    monkeypatch.setattr(rows, "orjson", None)
    monkeypatch.setattr(codec, "parse", None)
    np.testing.assert_array_equal(decoded([[1, 2.5], [3, 4]], schema), [[1, 2.5], [3, 4]])


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in ROW.items() if key != name}


@pytest.mark.parametrize(
    ("row", "field", "expected", "got"),
    [
        (without("age"), "", "column 'age'", "nothing"),
        ({}, "", "column 'age'", "nothing"),
        ({**without("age"), "agee": 1}, "", "column 'age'", "nothing; is 'agee' meant?"),
        ({**ROW, "Gap": 1}, "", "only columns of the model", "column 'Gap' (the closest"),
        ({**ROW, "x" * 10_000: 1}, "", "only columns of the model", "column 'xxxx"),
        ({**ROW, "\n\u202e": 1}, "", "only columns of the model", r"column '\n\u202e'"),
        ({**ROW, "age": None}, ".age", "a finite number", "a missing value"),
        ({**ROW, "age": "31 apples"}, ".age", "a number", "'31 apples'"),
        ({**ROW, "age": "3,1"}, ".age", "a number", "'3,1'"),
        ({**ROW, "age": "n/a"}, ".age", "a number", "'n/a'"),
        ({**ROW, "age": True}, ".age", "a number", "true"),
        ({**ROW, "age": [31]}, ".age", "a number", "a list of 1"),
        ({**ROW, "age": {}}, ".age", "a number", "an object"),
        ({**ROW, "gap": "gap"}, ".gap", "a number, or null where it is missing", "'gap'"),
        ({**ROW, "age": 1e39}, ".age", "a number of at most 3.403e+38 in size", "1e+39"),
        ({**ROW, "age": -(10**39)}, ".age", "a number of at most 3.403e+38 in size", "-1e+39"),
        ({**ROW, "city": None}, ".city", "a category: a text or a number", "null"),
        ({**ROW, "city": False}, ".city", "a category: a text or a number", "false"),
        ({**ROW, "city": ["Ulm"]}, ".city", "a category: a text or a number", "a list of 1"),
        ({**ROW, "kind": {}}, ".kind", "a category: a text or a number, or null", "an object"),
        ([1, "Ulm", None], "", "a list of 4 in the order of the columns", "a list of 3"),
        ([1, "Ulm", None, "a", 0], "", "a list of 4 in the order of the columns", "a list of 5"),
        ([], "", "a list of 4 in the order of the columns", "a list of 0"),
        (1, "", "a list of 4 in the order of the columns", "1"),
        (None, "", "a list of 4 in the order of the columns", "null"),
        ("Ulm", "", "a list of 4 in the order of the columns", "'Ulm'"),
    ],
)  # fmt: skip
def test_a_row_that_does_not_fit_is_named_with_its_column(
    row: Any, field: str, expected: str, got: str
) -> None:
    error = refused([ROW, list(ROW.values()), ROW, row])
    assert error.field == f"instances[3]{field}"
    assert error.expected.startswith(expected)
    assert error.got.startswith(got)
    assert len(str(error)) < 400
    assert str(error).isascii()


def test_the_sentence_of_a_missing_column_says_which_row() -> None:
    told = str(refused([ROW, ROW, ROW, without("age")]))
    assert told == "instances[3]: expected column 'age', got nothing"


def test_the_number_of_rows_is_checked() -> None:
    assert len(decoded([ROW] * MOST)) == MOST
    assert refused([ROW] * 6).got == "6 rows"
    assert refused([]).got == "an empty batch"
    assert refused(ROW).got == "an object"


@pytest.mark.parametrize(
    ("values", "field", "got"),
    [
        ([None, 0, 1, 0], "inputs[0] (row)[0].age", "a missing value"),
        ([1, 3, 1, 0], "inputs[0] (row)[0].city", "3"),
        ([1, 0.5, 1, 0], "inputs[0] (row)[0].city", "0.5"),
        ([1, "Ulm", 1, 0], "inputs[0] (row).data[1]", "'Ulm'"),
        ([1, "Ulm", None, 0], "inputs[0] (row).data[1]", "'Ulm'"),
    ],
)
def test_codes_that_do_not_fit_are_refused(values: list[Any], field: str, got: str) -> None:
    tensor = {"name": "row", "datatype": "FP32", "shape": [1, 4], "data": values}
    with pytest.raises(InputError) as caught:
        decode_infer(json.dumps({"inputs": [tensor]}).encode(), SCHEMA, MOST)
    assert (caught.value.field, caught.value.got) == (field, got)


def test_null_is_no_number_where_no_column_may_be_missing() -> None:
    tensor = {"name": "row", "datatype": "FP32", "shape": [1, 1], "data": [None]}
    with pytest.raises(InputError, match=r"data\[0\]: expected a number, got null"):
        decode_infer(json.dumps({"inputs": [tensor]}).encode(), schema_of(AGE), MOST)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("tables")
    for data in (tables.wine(), tables.cancer()):
        tables.publish_table(state / "registry", data)
    return state


@pytest.fixture(scope="module")
def client(state: Path) -> Iterator[FlaskClient]:
    with tables.served(state) as app:
        yield client_of(app)


@pytest.mark.parametrize("name", ["wine", "cancer"])
def test_raw_rows_are_answered_as_the_graph_does(
    client: FlaskClient, state: Path, name: str
) -> None:
    data = tables.wine() if name == "wine" else tables.cancer()
    x, y = data.test.x, data.test.y
    truth = Runner(Registry(state / "registry").open(name)).run(x)
    assert (truth.probabilities.argmax(axis=1) == y).mean() > 0.9
    for instances in (tables.as_objects(data, x), tables.as_lists(data, x)):
        answer = client.post(f"/predict?model={name}", json={"instances": instances})
        assert answer.status_code == 200, answer.text
        got = answer.get_json()["predictions"]
        np.testing.assert_array_equal(
            np.float32([p["probabilities"] for p in got]), truth.probabilities
        )


def test_a_category_never_seen_is_answered(client: FlaskClient) -> None:
    row = tables.as_objects(tables.wine(), tables.wine().test.x[:1])[0] | {"cellar": "west"}
    assert client.post("/predict?model=wine", json={"instances": [row]}).status_code == 200


def test_a_number_far_out_of_range_is_told_apart_from_a_strange_row(client: FlaskClient) -> None:
    data = tables.wine()
    usual = tables.as_objects(data, data.test.x[:1])[0]
    hue = next(c for c in data.schema.columns if c.name == "hue")
    span = hue.high - hue.low
    rows = [usual, *(usual | {"hue": v} for v in (hue.high + 0.9 * span, hue.high + 1.1 * span))]
    rows.append(usual | {"hue": hue.low - 1.1 * span})
    answer = client.post("/predict?model=wine", json={"instances": rows}).get_json()
    told = [row["drift"]["out_of_range"] for row in answer["predictions"]]
    assert told == [False, False, True, True]


def test_metadata_tells_what_a_client_needs_to_fill_the_tensor(client: FlaskClient) -> None:
    (told,) = client.get("/v2/models/wine").get_json()["inputs"]
    assert (told["datatype"], told["shape"]) == ("FP32", [-1, 7])
    columns = {column["name"]: column for column in told["parameters"]["columns"]}
    assert list(columns) == tables.names_of(tables.wine())
    assert columns["cellar"] == {
        "name": "cellar", "kind": "categorical", "missing": False,
        "categories": list(tables.CELLAR),
    }  # fmt: skip
    assert list(columns["hue"]) == ["name", "kind", "missing", "low", "high"]
    x = tables.wine().test.x[:3]
    data = [
        columns[name]["categories"].index(value)
        if "categories" in columns[name] and value is not None
        else value
        for row in tables.as_objects(tables.wine(), x)
        for name, value in row.items()
    ]
    tensor = {"name": told["name"], "datatype": "FP32", "shape": [3, 7], "data": data}
    v2 = client.post("/v2/models/wine/infer", json={"inputs": [tensor]}).get_json()
    friendly = {"instances": tables.as_objects(tables.wine(), x)}
    predictions = client.post("/predict?model=wine", json=friendly).get_json()["predictions"]
    expected = [value for p in predictions for value in p["probabilities"]]
    assert v2["outputs"][0]["data"] == expected
