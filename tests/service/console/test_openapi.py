"""The description against the service: what is answered is described, and the other way round."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from flask.testing import FlaskClient
from openapi_spec_validator import validate

from service.app import Application, create_app
from service.configuration.settings import load
from service.console.openapi import MADE, SOURCE, make_description
from service.web.call import Endpoint
from tests.asgi import client_of
from tests.service.described import (
    DESCRIPTION,
    JSON,
    check,
    check_answer,
    contents,
    found,
    operations,
)

PROBLEM = "application/problem+json"
OPERATIONS = [pytest.param(*each, id=each[2]["operationId"]) for each in operations()]
ARGUMENT = re.compile(r"<(\w+)>")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """Asks a service without a model."""
    app = create_app(load({"HOLDFAST_STATE": str(tmp_path_factory.mktemp("empty"))}))
    yield client_of(app)
    app.service.close()


def examples() -> list[Any]:
    """Schema and value of every example of a body."""
    made = []
    for _, _, operation in operations():
        for place, node in [("request", operation.get("requestBody", {}))] + [
            (status, found(answer)) for status, answer in operation["responses"].items()
        ]:
            for media, content in contents(node).items():
                for name, example in content.get("examples", {}).items():
                    label = f"{operation['operationId']}-{place}-{name}"
                    value = found(example)["value"]
                    made.append(pytest.param(content["schema"], value, id=f"{label}-{media}"))
    return made


def requests() -> list[Any]:
    """Every example of a JSON request."""
    return [
        pytest.param(method, path, operation, found(example)["value"], id=f"{id}-{name}")
        for method, path, operation in operations()
        for id in [operation["operationId"]]
        for name, example in contents(operation.get("requestBody", {}))
        .get(JSON, {})
        .get("examples", {})
        .items()
    ]


def filled(path: str, model: str = "digits", version: str = "1") -> str:
    return path.replace("{model}", model).replace("{version}", version)


def test_served_description_is_made_from_the_written_one() -> None:
    made = make_description(SOURCE.read_text())
    assert MADE.read_bytes() == made, "say: python -m service.console.openapi"


def test_description_is_openapi() -> None:
    validate(DESCRIPTION)


def test_description_has_the_version_of_the_program() -> None:
    project = tomllib.loads((SOURCE.parents[2] / "pyproject.toml").read_text())["project"]
    assert DESCRIPTION["info"]["version"] == project["version"]


def contract_of(app: Application) -> list[Endpoint]:
    """All addresses but those of the page at `/`, which are its own and may change with it."""
    return [each for each in app.endpoints if not each.rule.startswith("/console/")]


def test_every_address_is_described_and_every_one_described_is_there(
    session_app: Application,
) -> None:
    there = {(e.method, ARGUMENT.sub(r"{\1}", e.rule)) for e in contract_of(session_app)}
    assert there == {(method, path) for method, path, _ in operations()}


def test_scopes_are_those_of_the_addresses(session_app: Application) -> None:
    there = {(e.method, ARGUMENT.sub(r"{\1}", e.rule)): e.scope for e in contract_of(session_app)}
    told = {}
    for method, path, operation in operations():
        ways = operation.get("security", [])
        (told[method, path],) = {s for way in ways for s in way.get("token", ())} or {"open"}
        # Without a tokens file everybody may predict; admin calls need the admin token.
        assert ({} in ways) == (told[method, path] in ("predict", "feedback"))
    assert there == told


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_parameters_of_the_path_are_described(
    method: str, path: str, operation: dict[str, Any]
) -> None:
    nodes = [*DESCRIPTION["paths"][path].get("parameters", ()), *operation.get("parameters", ())]
    named = {found(node)["name"] for node in nodes if found(node)["in"] == "path"}
    assert named == set(re.findall(r"{(\w+)}", path))


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_errors_have_the_dialect_of_their_address(
    method: str, path: str, operation: dict[str, Any]
) -> None:
    wanted = JSON if re.match(r"/v[12](/|$)", path) else PROBLEM
    for status, answer in operation["responses"].items():
        if status >= "400" and not path.endswith(("ready", "readyz")):
            assert set(contents(answer)) == {wanted}, (path, status)


def test_every_schema_is_one_and_is_used() -> None:
    text = SOURCE.read_text()
    for kind, parts in DESCRIPTION["components"].items():
        for name in parts if kind != "securitySchemes" else ():
            assert f"#/components/{kind}/{name}" in text, name
    for schema in DESCRIPTION["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(("schema", "value"), examples())
def test_every_example_is_what_its_schema_says(schema: dict[str, Any], value: Any) -> None:
    check(schema, value)


@pytest.mark.parametrize(("method", "path", "operation", "body"), requests())
def test_every_request_of_the_examples_is_answered_as_described(
    client: FlaskClient, method: str, path: str, operation: dict[str, Any], body: Any
) -> None:
    answer = client.open(filled(path), method=method, json=body)
    check_answer(operation, answer)
    if "8 x 8" in str(contents(operation["requestBody"])[JSON]["examples"]):
        assert answer.status_code in (200, 400)


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
@pytest.mark.parametrize("model", ["digits", "nobody"])
def test_every_call_without_a_body_is_answered_as_described(
    client: FlaskClient, method: str, path: str, operation: dict[str, Any], model: str
) -> None:
    check_answer(operation, client.open(filled(path, model), method=method))


@pytest.mark.parametrize(
    ("method", "path", "operation"), [each for each in OPERATIONS if each.values[0] == "GET"]
)
def test_every_call_of_a_service_without_a_model_is_answered_as_described(
    empty: FlaskClient, method: str, path: str, operation: dict[str, Any]
) -> None:
    check_answer(operation, empty.open(filled(path), method=method))
