"""The description as tests use it: lookups, validation, and a narrower one for one model."""

import copy
from collections.abc import Iterator
from typing import Any

import jsonschema
import orjson
import yaml

from service.console.openapi import SOURCE

JSON = "application/json"
MOST_ROWS = 3  # of a request, in the narrower description
METHODS = ("get", "post", "put", "delete", "patch")
DESCRIPTION: dict[str, Any] = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))


def found(node: dict[str, Any]) -> dict[str, Any]:
    """What a `$ref` leads to, or the node itself."""
    while "$ref" in node:
        place: Any = DESCRIPTION
        for part in node["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        node = place
    return node


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and operation of every call."""
    for path, item in DESCRIPTION["paths"].items():
        for method, operation in item.items():
            if method in METHODS:
                yield method.upper(), path, operation


def contents(node: dict[str, Any]) -> dict[str, Any]:
    """Of a body or an answer, by media type."""
    return found(node).get("content", {})  # type: ignore[no-any-return]


def check(schema: dict[str, Any], value: Any) -> None:
    """Raise where a value is not what its schema says."""
    whole = {**schema, "components": DESCRIPTION["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)


def check_answer(operation: dict[str, Any], answer: Any) -> None:
    """Raise where status, headers, media type or body of an answer are not described.

    Args:
        operation: what was called.
        answer: with `status_code`, `headers` and `data`, as of a test client.
    """
    assert str(answer.status_code) in operation["responses"], (answer.status_code, answer.data)
    described = found(operation["responses"][str(answer.status_code)])
    for name, header in described.get("headers", {}).items():
        assert name in answer.headers or not found(header).get("required"), name
    if "content" not in described:
        assert answer.data == b""
        return
    media = answer.headers["Content-Type"].partition(";")[0]
    assert media in described["content"], media
    if media.endswith("json"):
        check(described["content"][media]["schema"], orjson.loads(answer.data))


def narrowed(model: str, spare: str) -> dict[str, Any]:
    """The description for a service of one model of 8x8 images: what fits it is answered with 200.

    Args:
        model: its name; other names are still asked for, now and then.
        spare: the model that is loaded and unloaded.
    """
    made = copy.deepcopy(DESCRIPTION)
    schemas, parameters = made["components"]["schemas"], made["components"]["parameters"]
    pixels = {"type": "array", "minItems": 8, "maxItems": 8, "items": _bounded(0, 16)}
    plane = {"type": "array", "minItems": 8, "maxItems": 8, "items": pixels}
    schemas["Row"] = {"type": "array", "minItems": 1, "maxItems": 1, "items": plane}
    schemas["Rows"]["maxItems"] = MOST_ROWS
    schemas["Instances"]["properties"]["instances"] = schemas["Rows"]
    schemas["PredictRequest"] = schemas["Instances"]  # what is bare is read in other tests
    for name in ("instances", "inputs"):
        rows = {"anyOf": [schemas["Rows"], {"type": "null"}]}
        schemas["V1PredictRequest"]["properties"][name] = rows
    known = {"anyOf": [{"const": model}, {"$ref": "#/components/schemas/ModelName"}]}
    for name in ("Model", "ModelArgument"):
        parameters[name]["schema"] = known
    parameters["Version"]["schema"] = {"enum": ["1", "2"]}
    parameters["Resize"]["schema"] = {}  # read where there are pictures only
    for path, item in made["paths"].items():
        if path.startswith("/v2/repository/models/"):
            item["parameters"] = [{**parameters["Model"], "schema": {"enum": [spare, "nobody"]}}]
    schemas["V2Input"]["properties"].update(
        name={"const": "input"},
        datatype={"const": "FP32"},
        shape={"const": [1, 1, 8, 8]},
        data={"type": "array", "minItems": 64, "maxItems": 64, "items": _bounded(0, 16)},
    )
    schemas["V2Input"]["required"] = ["name", "datatype", "shape", "data"]
    return made


def _bounded(low: float, high: float) -> dict[str, Any]:
    return {"type": "number", "minimum": low, "maximum": high}
