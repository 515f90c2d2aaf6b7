"""The calls of the console: who may, what is no traffic, and what is said where nobody knows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from werkzeug.test import Client, TestResponse

from models.versions import bundle as files
from models.versions.registry import Registry
from service.access import auth
from service.app import Application
from tests import bundles
from tests.asgi import client_of
from tests.service.conftest import MakeApp
from tests.service.console.states import publish_with_examples
from tests.service.console.watching import ALARM, FakeWatcher, job_row, model_row

LOCAL = {"Host": "127.0.0.1:8080"}


@pytest.fixture
def watcher() -> Iterator[FakeWatcher]:
    made = FakeWatcher()
    yield made
    made.close()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with a champion that has examples."""
    publish_with_examples(tmp_path / "registry")
    return tmp_path


@pytest.fixture
def app(make_app: MakeApp, state: Path, watcher: FakeWatcher) -> Application:
    return make_app(state, watch_url=watcher.url)


@pytest.fixture
def client(app: Application) -> Client:
    return client_of(app)


def get(client: Client, path: str, **headers: str) -> TestResponse:
    return client.get(path, headers={**LOCAL, **headers})


def post(client: Client, path: str, body: Any, **headers: str) -> TestResponse:
    return client.post(path, json=body, headers={**LOCAL, **headers})


def rows(n: int = 1) -> dict[str, Any]:
    return {"instances": bundles.digits().test.x[:n].tolist()}


# --- the page


def test_browsers_get_the_page_and_others_json_at_the_same_address(client: Client) -> None:
    page, plain = get(client, "/", Accept="text/html,*/*;q=0.8"), get(client, "/", Accept="*/*")
    assert page.mimetype == "text/html"
    assert plain.get_json()["name"] == "holdfast"
    assert [each.headers["Vary"] for each in (page, plain)] == ["Accept", "Accept"]
    policy = page.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "script-src 'self';" in policy


def test_the_page_can_be_switched_off(make_app: MakeApp, state: Path) -> None:
    client = client_of(make_app(state, console="off"))
    assert get(client, "/", Accept="text/html").mimetype == "application/json"
    assert get(client, "/console/state").status_code == 404


def test_files_of_the_page_are_only_those_of_the_page(client: Client) -> None:
    html = get(client, "/", Accept="text/html").text
    script = html.partition('src="')[2].partition('"')[0]
    assert get(client, script).headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert get(client, "/console/page/index.html").status_code == 404
    assert get(client, "/console/page/..%2fcalls.py").status_code == 404


# --- the state


def test_the_state_is_small_and_unchanged_until_something_happens(client: Client) -> None:
    first = get(client, "/console/state")
    assert len(first.data) <= 8192
    again = get(client, "/console/state", **{"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert first.get_json()["headline"]["title"].startswith("Nothing has moved")


def test_without_a_watcher_the_service_answers_and_says_so(
    client: Client, watcher: FakeWatcher
) -> None:
    watcher.close()
    told = get(client, "/console/state").get_json()
    assert (told["watcher"], told["headline"]["title"]) == (
        "away", "Predictions go on; nobody watches.",
    )  # fmt: skip
    assert get(client, "/console/view/drift").status_code == 200
    assert get(client, "/console/history").status_code == 503


def test_an_empty_registry_is_not_ready_and_has_a_page(make_app: MakeApp, tmp_path: Path) -> None:
    client = client_of(make_app(tmp_path))
    assert get(client, "/readyz").status_code == 503
    assert get(client, "/", Accept="text/html").status_code == 200
    told = get(client, "/console/state").get_json()
    assert told["headline"]["title"] == "There is no model yet."
    progress = {"model": "digits", "stage": "training", "done": 831, "total": 2023, "words": "w"}
    (tmp_path / "run").mkdir(exist_ok=True)
    (tmp_path / "run" / "progress.json").write_text(json.dumps(progress))
    client = client_of(make_app(tmp_path))
    told = get(client, "/console/state").get_json()
    assert told["headline"]["title"] == "The demo model is being trained."
    assert told["loading"]["done"] == 831
    assert get(client, "/readyz").status_code == 503


def test_a_watcher_that_says_nonsense_is_no_error(client: Client, watcher: FakeWatcher) -> None:
    watcher.row = {"model": "digits", "requests": "many"}
    assert get(client, "/console/state").status_code == 200
    watcher.row = {"model": "other"}
    for view in ("drift", "loop", "versions"):
        assert get(client, f"/console/view/{view}?compare=x&job=nobody").status_code == 200


# --- who may


def test_on_this_machine_without_tokens_the_page_needs_none(client: Client) -> None:
    assert get(client, "/console/state").get_json()["free"] is True
    assert get(client, "/console/examples").status_code == 200
    assert post(client, "/console/predict", rows()).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "10.0.0.9"},
        {"Via": "1.1 proxy"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Authorization": "Bearer nonsense"},
    ],
)
def test_what_may_come_from_elsewhere_is_not_trusted(
    headers: dict[str, str], client: Client
) -> None:
    assert get(client, "/console/examples", **headers).status_code == 401
    assert get(client, "/console/state", **headers).status_code == 200


def test_a_rebound_or_foreign_page_is_refused(client: Client) -> None:
    assert client.get("/console/state", headers={"Host": "evil.example"}).status_code == 421
    assert get(client, "/", Accept="text/html", Host="evil.example:8080").status_code == 421
    foreign = {"Origin": "http://evil.example"}
    assert post(client, "/console/predict", rows(), **foreign).status_code == 403
    assert post(client, "/console/demo", {"run": True}, **foreign).status_code == 403


def test_where_the_settings_want_a_token_this_machine_needs_one_too(
    make_app: MakeApp, state: Path
) -> None:
    client = client_of(make_app(state, console="token"))
    assert get(client, "/console/state").get_json()["free"] is False
    assert get(client, "/console/examples").status_code == 401
    nonsense = {"Authorization": "Bearer nonsense"}  # the token is made when it is first needed
    assert get(client, "/console/examples", **nonsense).status_code == 401
    secret = (state / "run" / "admin_token").read_text()
    bearer = {"Authorization": f"Bearer {secret}"}
    assert get(client, "/console/examples", **bearer).status_code == 200


def test_tokens_inputs_are_for_feedback_and_admin_and_acts_for_admin_only(
    make_app: MakeApp, state: Path, watcher: FakeWatcher
) -> None:
    scopes: tuple[auth.Held, ...] = ("predict", "feedback", "admin")
    secrets = {name: auth.create(state / "tokens.json", name, (name,)) for name in scopes}
    client = client_of(make_app(state, watch_url=watcher.url))
    statuses = {}
    for name, secret in secrets.items():
        bearer = {"Authorization": f"Bearer {secret}"}
        seen = get(client, "/console/examples", **bearer).status_code
        statuses[name] = [seen, post(client, "/console/demo", {"run": False}, **bearer).status_code]
    assert statuses == {"predict": [403, 403], "feedback": [200, 403], "admin": [200, 200]}
    assert get(client, "/console/examples").status_code == 401
    ((_, _, passed_on),) = watcher.sent
    assert passed_on == f"Bearer {secrets['admin']}"


def test_a_service_on_the_network_without_tokens_shows_no_inputs(
    make_app: MakeApp, state: Path
) -> None:
    client = client_of(make_app(state, host="0.0.0.0"))
    assert get(client, "/console/state").status_code == 200
    assert get(client, "/console/examples").status_code == 403
    assert post(client, "/console/predict", rows()).status_code == 403


# --- inputs


def test_an_answer_on_the_page_is_that_of_predict(client: Client) -> None:
    page = post(client, "/console/predict?told=1", rows()).get_json()
    plain = post(client, "/predict", rows()).get_json()
    for name in ("label", "probabilities", "drift", "perturbation"):
        assert page["predictions"][0][name] == plain["predictions"][0][name]
    assert [each["t"] for each in page["blocks"]][:3] == ["said", "h", "bars"]


def test_what_the_page_asks_is_no_traffic(app: Application, client: Client) -> None:
    def counted() -> str:
        kept = ("cell_observations", "predictions_total", "flagged_total", "batch_rows_count")
        lines = get(client, "/metrics").text.splitlines()
        return "\n".join(line for line in lines if any(name in line for name in kept))

    post(client, "/predict", rows())
    before = counted()
    rng = np.random.default_rng(0)
    for _ in range(30):
        x = bundles.digits().test.x[:16] + rng.uniform(0, 0.01, (16, 1, 8, 8))
        body = {"instances": np.clip(x, 0, 16).tolist()}
        assert post(client, "/console/predict?tab=abcdefgh", body).status_code == 200
    assert app.service.writer is not None
    app.service.writer.close()
    assert app.service.store is not None
    assert app.service.store.counts("digits").requests == 1
    assert counted() == before


def test_probing_is_seen_per_tab_and_does_not_mark_the_address(client: Client) -> None:
    x = bundles.digits().test.x[0]
    close = np.clip(x + np.random.default_rng(1).uniform(0, 0.01, (16, 1, 8, 8)), 0, 16)
    body = {"instances": close.tolist()}

    def probing(tab: str) -> bool:
        told = post(client, f"/console/predict?tab={tab}", body).get_json()
        return any(each["query"]["flagged"] for each in told["predictions"])

    assert probing("firsttab1")
    assert not post(client, "/predict", rows()).get_json()["predictions"][0]["query"]["flagged"]
    assert probing("secondtab")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/console/predict", rows(65), 413),
        ("/console/predict", {"instances": [[1]]}, 400),
        ("/console/predict?tab=a/b", rows(), 400),
        ("/console/predict?model=nobody", rows(), 404),
    ],
)
def test_a_bad_call_of_the_page_is_told_what_is_wrong(
    path: str, body: Any, status: int, client: Client
) -> None:
    assert post(client, path, body).status_code == status


def test_examples_are_held_out_rows_or_said_to_be_left_out(client: Client, state: Path) -> None:
    told = get(client, "/console/examples")
    document = told.get_json()
    assert told.headers["Cache-Control"] == "no-store"
    assert len(document["rows"]) == 24
    assert document["rows"][0]["x"] == bundles.digits().test.x[0].tolist()
    assert document["left_out"] is False


def test_rows_to_label_are_those_without_a_label(client: Client, app: Application) -> None:
    for k in range(30):
        body = {"instances": bundles.digits().test.x[k : k + 1].tolist()}
        post(client, "/predict", body, **{"X-Request-Id": f"r{k}"})
    assert app.service.writer is not None
    app.service.writer.close()
    for k in range(10):
        label = {"id": f"r{k}", "label": "3"}
        assert post(client, "/feedback", label).status_code == 200
    told = get(client, "/console/rows?want=label&n=50").get_json()
    assert {row["id"] for row in told["rows"]} == {f"r{k}" for k in range(10, 30)}
    assert (told["how"], told["labelled"]) == ("random", 10)
    assert get(client, "/console/rows?want=label&n=0").status_code == 400
    assert get(client, "/console/rows?want=secrets").status_code == 400


def test_a_holder_of_feedback_sees_only_requests_of_its_own(
    make_app: MakeApp, state: Path, watcher: FakeWatcher
) -> None:
    names = {"ada": ("predict", "feedback"), "bob": ("predict", "feedback"), "all": ("admin",)}
    tokens = {n: auth.create(state / "tokens.json", n, s) for n, s in names.items()}  # type: ignore[arg-type]
    app = make_app(state, watch_url=watcher.url)
    client = client_of(app)
    for name in ("ada", "bob"):
        sent = {"Authorization": f"Bearer {tokens[name]}", "X-Request-Id": f"of-{name}"}
        post(client, "/predict", rows(), **sent)
    assert app.service.writer is not None
    app.service.writer.close()
    seen = {
        name: {
            row["id"]
            for row in get(
                client, "/console/rows?want=label", Authorization=f"Bearer {secret}"
            ).get_json()["rows"]
        }
        for name, secret in tokens.items()
    }
    assert seen == {"ada": {"of-ada"}, "bob": {"of-bob"}, "all": {"of-ada", "of-bob"}}


# --- acts and views


def test_acts_are_relayed_with_the_states_own_token_and_refusals_come_back(
    client: Client, watcher: FakeWatcher, state: Path
) -> None:
    body = {"reason": "a test", "expected": 2}
    assert post(client, "/console/models/digits/hold", body).status_code == 200
    secret = (state / "run" / "admin_token").read_text()
    assert watcher.sent == [("/models/digits/hold", body, f"Bearer {secret}")]
    watcher.refusal = (409, {"detail": "version 2 was the champion that you saw; ada did so"})
    stale = post(client, "/console/jobs/x/approve", body)
    assert (stale.status_code, "ada" in stale.text) == (409, True)
    assert get(client, "/console/models/digits/hold").status_code == 405
    assert post(client, "/console/models/digits/burn", body).status_code == 404


def test_views_say_what_the_watcher_says(client: Client, watcher: FakeWatcher) -> None:
    watcher.row = model_row(**ALARM, alarm_since=0.0)
    watcher.jobs = [job_row()]
    drift, loop, versions = (
        get(client, f"/console/view/{name}").text for name in ("drift", "loop", "versions")
    )
    assert "The world moved" in drift
    assert "1 of 3 gates" in loop
    assert "? unknown" in loop
    assert '"2"' in versions
    assert "Version 1 and version 2" in get(client, "/console/view/versions?compare=1,2").text


def test_a_report_runs_nothing_and_must_fit_its_digest(client: Client, state: Path) -> None:
    assert get(client, "/console/report/digits/1").status_code == 404  # it has none
    registry = Registry(state / "registry")
    bundle = registry.open("digits", "1")
    contents = {name: bundle.read(name) for name in (files.MODEL, files.REFERENCE)}
    contents["report.html"] = b"<h1>report</h1>"

    def make(version: int) -> Any:
        return contents, msgspec.structs.replace(bundle.manifest, version=version)

    version = registry.publish("digits", make, actor="test", reason="test")
    path = f"/console/report/digits/{version}"
    report = get(client, path)
    assert report.data == b"<h1>report</h1>"
    assert report.headers["Content-Security-Policy"].startswith("sandbox;")
    (registry.path("digits", version) / "report.html").write_bytes(b"<h1>altered</h1>")
    assert get(client, path).status_code == 404
    for wrong in ("digits/0", "digits/x", "nobody/1"):
        assert get(client, f"/console/report/{wrong}").status_code == 404
