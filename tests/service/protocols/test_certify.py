import json
import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from onnx import numpy_helper

from models.base.errors import DataError, InputError
from models.data import Rows
from models.evaluation import certify as maths
from models.statistics.intervals import proportion
from models.versions.registry import Registry
from service.app import Application, Service
from service.cli import CONTEXT
from service.cli.certify import _choose_rows
from service.cli.certify import certify as command
from service.configuration.settings import Settings
from tests import bundles
from tests.asgi import client_of
from tests.printed import data_of
from tests.service import tables
from tests.service.protocols.test_health import samples

MAX_RUNS = 12_000


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("certify")
    for data in (tables.wine(), tables.cancer()):
        tables.publish_table(state / "registry", data)
    tables.publish_digits(state / "registry")
    tables.publish_colours(state / "registry")
    return state


@pytest.fixture(scope="module")
def app(state: Path) -> Iterator[Application]:
    with tables.served(state, certify_max_runs=MAX_RUNS, feedback_wait_seconds=0.1) as app:
        yield app


@pytest.fixture
def client(app: Application) -> FlaskClient:
    return client_of(app)


def asked(client: FlaskClient, model: str, instances: Any, **options: Any) -> Any:
    answer = client.post(f"/certify?model={model}", json={"instances": instances, **options})
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_a_certificate_says_all_that_it_rests_on(client: FlaskClient) -> None:
    x = bundles.digits().test.x[:3]
    headers = {"X-Request-Id": "c-1"}
    body = {"instances": x.tolist(), "sigma": 0.25, "samples": 500}
    answer = client.post("/certify?model=digits", json=body, headers=headers).get_json()
    assert list(answer) == [
        "model", "version", "id", "norm", "unit", "sigma", "alpha", "largest_radius",
        "certificates",
    ]  # fmt: skip
    assert (answer["model"], answer["version"], answer["id"]) == ("digits", 1, "c-1")
    assert (answer["norm"], answer["sigma"], answer["alpha"]) == ("l2", 0.25, 0.001)
    assert answer["unit"] == "1 is the whole range of a value (0 to 16)"
    assert len(answer["certificates"]) == 3
    for each in answer["certificates"]:
        assert list(each) == ["label", "index", "radius", "abstained", "p_low", "samples"]
        assert each["samples"] == 500
        assert 0 <= each["radius"] <= answer["largest_radius"]
        assert each["abstained"] == (each["label"] is None) == (each["radius"] == 0)


def test_no_radius_reaches_beyond_the_boundary_of_a_linear_model(
    client: FlaskClient, state: Path
) -> None:
    """Under Gaussian noise a linear classifier smooths to itself, so its boundary is known."""
    x = tables.cancer().test.x[:10]
    graph = onnx.load_from_string(Registry(state / "registry").open("cancer").model_bytes).graph
    weights = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    unit = tables.cancer().schema.to_unit(x)
    side = unit @ np.diff(weights["w"], axis=1)[:, 0] + np.diff(weights["b"])
    distance = np.abs(side) / np.linalg.norm(np.diff(weights["w"], axis=1))
    told = asked(client, "cancer", x.tolist(), sigma=0.1, samples=1000, alpha=1e-9)
    certified = [each for each in told["certificates"] if not each["abstained"]]
    assert len(certified) >= 5
    for each, far, towards in zip(told["certificates"], distance, side, strict=True):
        if not each["abstained"]:
            assert each["radius"] <= far
            assert each["index"] == int(towards > 0)


def test_more_noise_samples_reach_further(client: FlaskClient) -> None:
    row = tables.colours().test.x[:1].tolist()
    few, many = (
        asked(client, "colours", row, sigma=0.1, samples=n)["largest_radius"] for n in (100, 5000)
    )
    assert 0 < few < many


def test_an_answer_that_noise_decides_abstains(client: FlaskClient) -> None:
    grey = np.full((1, 1, 8, 8), 8.0).tolist()
    (told,) = asked(client, "digits", grey, sigma=10, samples=100)["certificates"]
    assert told == {
        "label": None, "index": None, "radius": 0.0, "abstained": True, "p_low": told["p_low"],
        "samples": 100,
    }  # fmt: skip


def test_it_is_no_traffic(app: Application, client: FlaskClient) -> None:
    row = bundles.digits().test.x[:1].tolist()
    before = samples(client)
    told = asked(client, "digits", row, samples=100)
    after = samples(client)
    changed = {name for name in after if after[name] != before.get(name)}
    assert {name for name, _ in changed} <= {
        f"holdfast_http_request{tail}"
        for tail in (
            "s_total", "_duration_seconds_count", "_duration_seconds_sum",
            "_duration_seconds_bucket",
        )
    }  # fmt: skip
    counted = {"route": "/certify", "method": "POST", "code": "200"}
    assert ("holdfast_http_requests_total", frozenset(counted.items())) in changed
    service: Service = app.service
    assert service.store is not None
    assert service.store.counts("digits").requests == 0
    label = {"id": told["id"], "label": "0"}
    assert client.post("/feedback", json=label).status_code == 404


def test_one_at_a_time_and_the_next_is_told_to_come_back(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = bundles.digits().test.x[:1].tolist()
    began, end, real = threading.Event(), threading.Event(), maths.certify

    def slow(*args: Any, **options: Any) -> maths.Certificate:
        began.set()
        assert end.wait(120)
        return real(*args, **options)

    monkeypatch.setattr(maths, "certify", slow)
    answers: list[Any] = []
    body = {"instances": row, "samples": 100}
    ask = lambda: answers.append(  # noqa: E731
        client_of(app).post("/certify?model=digits", json=body)
    )
    first = threading.Thread(target=ask)
    first.start()
    assert began.wait(120)
    ask()
    end.set()
    first.join()
    ask()
    assert [answer.status_code for answer in answers] == [503, 200, 200]
    assert answers[0].headers["Retry-After"] == "1"
    assert answers[0].content_type == "application/problem+json"


def test_a_failure_lets_the_next_one_in(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"instances": bundles.digits().test.x[:1].tolist(), "samples": 100}

    def refuse(*args: Any, **options: Any) -> maths.Certificate:
        raise InputError("sigma", "another", "this")

    with monkeypatch.context() as patch:
        patch.setattr(maths, "certify", refuse)
        assert client_of(app).post("/certify?model=digits", json=body).status_code == 400
    assert client_of(app).post("/certify?model=digits", json=body).status_code == 200


DIGIT = np.zeros((1, 8, 8)).tolist()
BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "no rows": ("digits", {"instances": []}, "instances"),
    "ragged": ("digits", {"instances": [[1, 2]]}, "instances[0]"),
    "out of range": ("digits", {"instances": [np.full((1, 8, 8), 17).tolist()]}, "instances[0]"),
    "no instances": ("digits", {}, "instances"),
    "another member": ("digits", {"instances": [DIGIT], "sample": 100}, "body"),
    "no noise": ("digits", {"instances": [DIGIT], "sigma": 0}, "sigma"),
    "negative noise": ("digits", {"instances": [DIGIT], "sigma": -1}, "sigma"),
    "much noise": ("digits", {"instances": [DIGIT], "sigma": 1e308}, "sigma"),
    "text for noise": ("digits", {"instances": [DIGIT], "sigma": "0.25"}, "sigma"),
    "no samples": ("digits", {"instances": [DIGIT], "samples": 0}, "samples"),
    "half a sample": ("digits", {"instances": [DIGIT], "samples": 0.5}, "samples"),
    "many samples": ("digits", {"instances": [DIGIT], "samples": 10**300}, "samples"),
    "too much work": ("digits", {"instances": [DIGIT] * 11, "samples": 1000}, "samples"),
    "too much for a row": ("digits", {"instances": [DIGIT], "samples": 11_901}, "samples"),
    "certain": ("digits", {"instances": [DIGIT], "alpha": 0}, "alpha"),
    "uncertain": ("digits", {"instances": [DIGIT], "alpha": 0.6}, "alpha"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused_with_its_field(client: FlaskClient, name: str) -> None:
    model, body, field = BAD[name]
    answer = client.post(f"/certify?model={model}", json=body)
    assert answer.status_code == 400
    problem = answer.get_json()
    assert problem["field"] == field
    assert problem["expected"]
    assert problem["got"]
    assert len(answer.data) < 1000


def test_numbers_beyond_json_readers_are_refused(client: FlaskClient) -> None:
    for text in ("9" * 5000, "1e400", "-1e400"):
        for name in ("sigma", "samples", "alpha"):
            body = json.dumps({"instances": [DIGIT], name: 0}).replace(": 0}", f": {text}}}")
            answer = client.post(
                "/certify?model=digits", data=body, content_type="application/json"
            )
            assert answer.status_code == 400
            assert answer.get_json()["field"] == name


def test_as_much_work_as_is_allowed_is_done(client: FlaskClient) -> None:
    assert asked(client, "digits", [DIGIT] * 10, samples=1100)["certificates"]


def test_tables_with_categories_or_missing_values_are_refused_in_words(
    client: FlaskClient,
) -> None:
    wine = tables.wine()
    missing = np.isnan(wine.test.x).any(axis=1)
    for x, field, words in (
        (wine.test.x[~missing], "certify", "categorical column 'cellar'"),
        (wine.test.x[missing], "instances[0].flavanoids", "missing value"),
    ):
        body = {"instances": tables.as_objects(wine, x[:2]), "samples": 100}
        answer = client.post("/certify?model=wine", json=body)
        assert answer.status_code == 400
        assert answer.get_json()["field"] == field
        assert words in answer.get_json()["detail"]


def test_the_model_is_named_where_several_are_served(client: FlaskClient) -> None:
    answer = client.post("/certify", json={"instances": [DIGIT]})
    assert answer.status_code == 400
    assert answer.get_json()["field"] == "model"


def run(state: Path, *args: str) -> str:
    settings = Settings(state=str(state))
    done = CliRunner().invoke(command, args, obj=settings, catch_exceptions=False, **CONTEXT)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_command_gives_the_curve_of_held_out_rows(state: Path) -> None:
    args = ("digits", "--rows", "30", "--samples", "300", "--json")
    told = data_of(run(state, *args))
    assert (told["model"], told["version"], told["n"]) == ("digits", 1, 30)
    radii = [point["radius"] for point in told["points"]]
    values = [point["value"] for point in told["points"]]
    assert radii[:3] == [0, 0.0625, 0.125]
    assert radii[-1] <= told["largest_radius"] < radii[-1] + 0.0625
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.5
    for point in told["points"]:
        right = np.arange(30) < round(point["value"] * 30)
        assert (point["low"], point["high"]) == (proportion(right).low, proportion(right).high)
    assert data_of(run(state, *args)) == told
    other = data_of(run(state, *args, "--seed", "1"))
    assert other["points"] != told["points"]


def test_the_command_prints_a_table_with_its_unit(state: Path) -> None:
    text = run(state, "digits", "--rows", "5", "--samples", "100", "--sigma", "0.1")
    assert text.startswith("digits/1 on 5 held-out rows, noise of sigma 0.1\n")
    assert "L2 radius  certified accuracy  95 % interval\n0          " in text
    assert "units of the [0, 1] range; 100 samples reach" in text
    reach = maths.largest_radius(0.1, 100, 0.001)
    assert f"reach {reach:.4g}." in text
    assert math.isfinite(reach)


def test_the_command_says_what_it_cannot_do(state: Path) -> None:
    settings = Settings(state=str(state))
    invoke = CliRunner().invoke
    for sigma in ("0", "-1", "11", "x"):
        assert invoke(command, ["digits", "--sigma", sigma], obj=settings, **CONTEXT).exit_code == 2
    told = invoke(command, ["colours"], obj=settings, **CONTEXT).exception
    assert isinstance(told, DataError)
    assert str(told) == "colours/1: its manifest does not say which data it was made from"


def test_the_command_refuses_data_that_changed(tmp_path: Path) -> None:
    tables.publish_digits(tmp_path / "registry", fingerprint="0" * 64)
    settings = Settings(state=str(tmp_path))
    told = CliRunner().invoke(command, ["digits"], obj=settings, **CONTEXT).exception
    assert isinstance(told, DataError)
    assert "changed since digits/1 was made from it" in str(told)


def test_rows_with_a_missing_value_are_left_out() -> None:
    x = np.float32([[1, 2], [np.nan, 0], [3, 4]])
    whole = _choose_rows(Rows(x, np.arange(3)), 100, 0)
    assert whole.y.tolist() == [0, 2]
    with pytest.raises(DataError, match="every held-out row has a missing value"):
        _choose_rows(Rows(x[1:2], np.arange(1)), 100, 0)


def test_the_command_needs_no_torch(state: Path) -> None:
    code = (
        "import sys\n"
        "from service.cli.certify import certify\n"
        "from service.configuration.settings import Settings\n"
        "args = ['digits', '--rows', '2', '--samples', '50', '--json']\n"
        f"certify(args, obj=Settings(state={str(state)!r}), standalone_mode=False)\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert data_of(done.stdout)["n"] == 2
