"""Pictures at `/predict`: a file, or a form of several, is answered as its pixels in JSON are."""

import base64
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from werkzeug.datastructures import FileStorage
from werkzeug.test import Client

from models.data import Source
from models.data.formats import folder
from tests import samples
from tests.asgi import client_of
from tests.service import pictures, tables
from tests.service.conftest import MakeApp
from tests.service.pictures import colour, grey, saved

PNG, JPEG, FORM, JSON = "image/png", "image/jpeg", "multipart/form-data", "application/json"
READ = f"{JSON}, {PNG}, {JPEG}, {FORM}"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Asks a service of a model of pictures and one of a table."""
    state = pictures.published(tmp_path_factory)
    with tables.served(state, max_rows=20, query_detection="off") as app:
        yield client_of(app)


def answer(client: Client, path: str, data: Any, kind: str, **headers: str) -> Any:
    return client.post(path, data=data, content_type=kind, headers=headers)


def by_json(client: Client, model: str, x: Any) -> Any:
    body = json.dumps({"instances": x.tolist()})
    return answer(client, f"/predict?model={model}", body, JSON).get_json()["predictions"]


def files(*contents: bytes, field: str = "image") -> dict[str, list[FileStorage]]:
    return {field: [FileStorage(stream=BytesIO(each), filename="x.png") for each in contents]}


@pytest.mark.parametrize("kind", [PNG, JPEG])
def test_a_file_is_answered_as_its_pixels_are(client: Client, kind: str) -> None:
    image = tables.colours().test.x[0].transpose(1, 2, 0)
    data = saved(image, kind.partition("/")[2], **({"quality": 100} if kind == JPEG else {}))
    got = answer(client, "/predict?model=colours", data, kind, **{"X-Request-Id": "a-1"})
    assert got.status_code == 200
    document = got.get_json()
    assert (document["model"], document["version"], document["id"]) == ("colours", 1, "a-1")
    with Image.open(BytesIO(data)) as opened:
        pixels = np.asarray(opened).transpose(2, 0, 1)
    assert document["predictions"] == by_json(client, "colours", pixels[None])


def test_a_png_called_a_jpeg_is_what_it_is(client: Client) -> None:
    data = saved(colour())
    first, second = (answer(client, "/predict?model=colours", data, k) for k in (PNG, JPEG))
    assert first.get_json()["predictions"] == second.get_json()["predictions"]


def test_the_files_of_a_form_are_rows_in_their_order(client: Client) -> None:
    x = tables.colours().test.x[:20]
    contents = [saved(each.transpose(1, 2, 0)) for each in x]
    got = answer(client, "/predict?model=colours", files(*contents), FORM)
    assert got.get_json()["predictions"] == by_json(client, "colours", x)


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_folder_that_a_model_can_be_trained_on_is_served_as_it_was_read(
    client: Client, tmp_path: Path, kind: str
) -> None:
    root = samples.write_folder(tmp_path / "pets", rows=8, kind=kind, channels=3)
    read = folder.read(Source(str(root))).train
    assert read.pixels is not None
    contents = [Path(read.where(row)).read_bytes() for row in range(16)]
    got = answer(client, "/predict?model=colours", files(*contents), FORM).get_json()
    assert got["predictions"] == by_json(client, "colours", read.pixels)


def test_another_size_is_resized_only_on_request(client: Client) -> None:
    data = saved(colour(height=40, width=30))
    refused = answer(client, "/predict?model=colours", data, PNG)
    assert refused.status_code == 400
    problem = refused.get_json()
    assert problem["field"] == "body"
    assert "8 x 8" in problem["expected"]
    assert "30 x 40" in problem["got"]
    for resize in ("stretch", "crop", "pad"):
        path = f"/predict?model=colours&resize={resize}"
        assert answer(client, path, data, PNG).status_code == 200
    assert answer(client, "/predict?model=colours&resize=", data, PNG).status_code == 400


@pytest.mark.parametrize(
    "kind",
    ["application/x-www-form-urlencoded", "image/gif", "application/octet-stream", "text/plain"],
)
def test_another_content_type_is_415_and_names_those_that_are_read(
    client: Client, kind: str
) -> None:
    for model, read in (("colours", READ), ("wine", JSON)):
        refused = answer(client, f"/predict?model={model}", saved(colour()), kind)
        assert refused.status_code == 415
        assert refused.get_json()["expected"] == read
        assert refused.headers["Accept"] == read


@pytest.mark.parametrize("kind", [PNG, JPEG, f"{FORM}; boundary=b"])
def test_a_table_takes_no_pictures(client: Client, kind: str) -> None:
    refused = answer(client, "/predict?model=wine", saved(colour()), kind)
    assert refused.status_code == 415
    assert refused.get_json()["expected"] == JSON


BROKEN = {
    "empty": (b"", PNG, "body"),
    "no picture": (b'{"instances": []}', PNG, "body"),
    "cut": (saved(colour())[:-20], PNG, "body"),
    "a bomb": (pictures.bomb(20_000, 1000), PNG, "body"),
    "scans": (pictures.scans(3000), JPEG, "body"),
    "no form": (b"--b", f"{FORM}; boundary=b", "body"),
    "no boundary": (b"--b", FORM, "body"),
    "an empty form": (b"--b--\r\n", f"{FORM}; boundary=b", "files"),
    "one bad file": (files(saved(colour()), b"GIF89a"), FORM, "files[1]"),
    "21 files": (files(*[saved(colour())] * 21), FORM, "body"),
    "a text": ({"model": "colours", **files(saved(colour()))}, FORM, "field 'model'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_refused_with_the_field(client: Client, name: str) -> None:
    data, kind, field = BROKEN[name]
    for path in ("/predict?model=colours", "/predict?model=colours&resize=pad"):
        refused = answer(client, path, data, kind)
        assert refused.status_code == 400
        assert refused.content_type == "application/problem+json"
        problem = refused.get_json()
        assert problem["field"] == field
        assert problem["expected"]
        assert problem["got"]
        assert len(refused.data) < 1000
        if isinstance(data, dict):
            return  # its streams are read


def test_the_pixels_of_a_request_are_limited_by_a_setting(
    make_app: MakeApp, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    url, state = f"sqlite:///{tmp_path}/records.sqlite", pictures.published(tmp_path_factory)
    client = client_of(make_app(state, max_image_pixels=100, database_url=url))
    assert answer(client, "/predict?model=colours", saved(colour()), PNG).status_code == 200
    two = answer(client, "/predict?model=colours", files(*[saved(colour())] * 2), FORM)
    one = answer(client, "/predict?model=colours", saved(colour(height=11, width=10)), PNG)
    encoded = {"b64": base64.b64encode(saved(colour())).decode()}
    v1 = client.post("/v1/models/colours:predict", json={"instances": [encoded] * 2})
    for refused in (one, two, v1):
        assert refused.status_code == 400
        assert "at most 100 pixels in a request (HOLDFAST_MAX_IMAGE_PIXELS)" in refused.text


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([PNG, JPEG, f"{FORM}; boundary=b", f'{FORM}; boundary="\xe9"', FORM]),
    st.sampled_from(["", "&resize=pad", "&resize=%00", "&resize=pad&resize=crop"]),
    st.sampled_from([b"", saved(grey()), saved(grey(), "jpeg"), b"--b\r\n"]),
    st.binary(max_size=60),
)
def test_no_body_gives_a_5xx(
    client: Client, kind: str, resize: str, begin: bytes, end: bytes
) -> None:
    got = answer(client, f"/predict?model=colours{resize}", begin + end, kind)
    assert got.status_code in (200, 400)
