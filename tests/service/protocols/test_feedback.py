import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from monitoring.records.store import Key, Record, StoreError
from service.access.auth import create
from service.app import Service
from tests.asgi import client_of
from tests.service.conftest import MakeApp
from tests.waiting import wait_until

Rows = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture
def asked(client: FlaskClient, service: Service, rows: Rows) -> dict[str, Any]:
    """An answered request of three rows, which are in the store."""
    answer: dict[str, Any] = client.post(
        "/predict", json={"instances": rows[:3].tolist()}
    ).get_json()
    store, keys = service.store, [Key(answer["id"], row) for row in range(3)]
    assert store is not None
    wait_until(lambda: len(store.find(keys)) == 3, what="three records")
    return answer


def test_a_label_is_joined_by_id_and_row(client: FlaskClient, asked: dict[str, Any]) -> None:
    labels = [p["label"] for p in asked["predictions"]]
    wrong = "0" if labels[1] != "0" else "1"
    items = [
        {"id": asked["id"], "label": labels[0]},
        {"id": f"{asked['id']}/1", "label": wrong},
    ]
    answer = client.post("/feedback", json=items)
    assert answer.status_code == 200
    assert answer.get_json()["accepted"] == 2
    results = answer.get_json()["results"]
    assert [(r["row"], r["correct"]) for r in results] == [(0, True), (1, False)]
    assert results[1]["predicted"] == labels[1]


def test_the_last_label_wins(
    client: FlaskClient, service: Service, asked: dict[str, Any], rows: Rows
) -> None:
    for label in ("3", "4"):
        body = {"id": f"{asked['id']}/2", "label": label}
        assert client.post("/feedback", json=body).status_code == 200
    assert service.store is not None
    schema = service.champions.find("digits").manifest.input
    kept = service.store.labelled("digits", schema, limit=1)
    assert kept.y.tolist() == [4]
    np.testing.assert_array_equal(kept.x, rows[2:3])


def test_feedback_is_counted_by_whether_it_was_right(
    client: FlaskClient, asked: dict[str, Any]
) -> None:
    def count() -> float:
        line = 'holdfast_feedback_total{correct="true",model="digits",version="1"} '
        text = client.get("/metrics").text
        return float(next(x for x in text.splitlines() if x.startswith(line)).split()[-1])

    before = count()
    label = asked["predictions"][0]["label"]
    client.post("/feedback", json={"id": asked["id"], "label": label})
    assert count() == before + 1


def test_an_unknown_id_is_404_and_the_known_ones_of_the_list_are_kept(
    client: FlaskClient, service: Service, asked: dict[str, Any]
) -> None:
    items = [{"id": asked["id"], "label": "7"}, {"id": "nobody", "label": "7"}]
    answer = client.post("/feedback", json=items)
    assert answer.status_code == 404
    problem = answer.get_json()
    assert problem["field"] == "[1].id"
    assert problem["accepted"] == 1
    assert problem["unknown"] == ["nobody/0"]
    schema = service.champions.find("digits").manifest.input
    assert service.store is not None
    assert service.store.labelled("digits", schema, limit=1).y.tolist() == [7]
    beyond = client.post("/feedback", json={"id": f"{asked['id']}/3", "label": "7"})
    assert beyond.status_code == 404


def test_feedback_waits_for_a_record_that_another_worker_writes(
    make_app: MakeApp, published_state: Path, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/records.sqlite"
    app = make_app(published_state, database_url=url, feedback_wait_seconds=60)
    client, store = client_of(app), app.service.store
    assert store is not None
    record = Record("late", 0, time.time(), "digits", 1, b"\0" * 256, 3, 0.5, 0.1, 0.9, 0.3)

    def write_late() -> None:
        time.sleep(0.1)
        store.add([record])

    thread = threading.Thread(target=write_late)
    thread.start()
    answer = client.post("/feedback", json={"id": "late", "label": "3"})
    thread.join()
    assert answer.status_code == 200


def test_a_store_that_cannot_be_written_refuses_the_label(
    make_app: MakeApp,
    published_state: Path,
    tmp_path: Path,
    rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StoreError("the store of records cannot be written: disk full")

    app = make_app(published_state, database_url=f"sqlite:///{tmp_path}/records.sqlite")
    client = client_of(app)
    asked = client.post("/predict", json={"instances": rows[:1].tolist()}).get_json()
    body = {"id": asked["id"], "label": "1"}
    assert client.post("/feedback", json=body).status_code == 200  # the record is there
    monkeypatch.setattr(app.service.store, "add_feedback", full)
    answer = client.post("/feedback", json=body)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert "not kept" in answer.get_json()["detail"]


def test_without_a_store_predictions_go_on_and_labels_are_refused(
    make_app: MakeApp, published_state: Path, rows: Rows
) -> None:
    app = make_app(published_state, database_url="sqlite:////proc/none/records.sqlite")
    client = client_of(app)
    assert client.post("/predict", json={"instances": rows[:1].tolist()}).status_code == 200
    assert client.post("/feedback", json={"id": "a", "label": "1"}).status_code == 503


@pytest.mark.parametrize("spelled", ["7", " 7", "7.0", 7, 7.0, "+7", "7e0"])
def test_a_label_is_read_as_the_file_writes_it(
    client: FlaskClient, asked: dict[str, Any], spelled: Any
) -> None:
    answer = client.post("/feedback", json={"id": asked["id"], "label": spelled})
    assert answer.status_code == 200, answer.text
    assert answer.get_json()["results"][0]["label"] == "7"


@pytest.mark.parametrize("spelled", ["seven", 7.5, "07", True, "", 10])
def test_a_label_that_is_no_class_in_any_spelling_is_refused_with_the_classes(
    client: FlaskClient, asked: dict[str, Any], spelled: Any
) -> None:
    answer = client.post("/feedback", json=[{"id": asked["id"], "label": spelled}])
    assert answer.status_code == 400
    assert answer.get_json()["field"] == "[0].label"
    assert answer.get_json()["expected"] == "one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"


def test_labels_of_other_clients_take_a_scope_and_are_told_where_they_differ(
    make_app: MakeApp, published_state: Path, tmp_path: Path, rows: Rows
) -> None:
    path = tmp_path / "tokens.json"
    shop, other, auditor = (
        {"Authorization": f"Bearer {create(path, name, scopes)}"}
        for name, scopes in (
            ("shop", ("predict", "feedback")),
            ("other", ("predict", "feedback")),
            ("auditor", ("feedback:any",)),
        )
    )
    database_url = f"sqlite:///{tmp_path}/records.sqlite"
    app = make_app(published_state, tokens_file=str(path), database_url=database_url)
    client, store = client_of(app), app.service.store
    body = {"instances": rows[:1].tolist()}
    mine, theirs = (
        client.post("/predict", json=body, headers=token).get_json()["id"]
        for token in (other, shop)
    )
    assert store is not None
    wait_until(lambda: len(store.find([Key(mine, 0), Key(theirs, 0)])) == 2, what="two records")

    items = [{"id": mine, "label": "1"}, {"id": theirs, "label": "2"}, {"id": "no", "label": "2"}]
    refused = client.post("/feedback", json=items, headers=other)
    assert refused.status_code == 403
    problem = refused.get_json()
    assert (problem["field"], problem["accepted"]) == ("[1].id", 1)
    assert (problem["foreign"], problem["unknown"]) == ([f"{theirs}/0"], ["no/0"])
    assert "feedback:any" in problem["detail"]
    assert store.counts("digits").labelled == 1

    def give(label: str, token: dict[str, str]) -> tuple[bool, list[str]]:
        answer = client.post("/feedback", json={"id": theirs, "label": label}, headers=token)
        assert answer.status_code == 200, answer.text
        result = answer.get_json()["results"][0]
        return result["counts"], result["contradicts"]

    assert give("3", shop) == (True, [])
    assert give("4", auditor) == (False, ["3"])
    assert (
        'holdfast_feedback_contradictions_total{model="digits"} 1.0' in client.get("/metrics").text
    )
    kept = store.labelled("digits", app.service.champions.find("digits").manifest.input)
    assert (kept.y.tolist(), kept.clients) == ([1], ("token other",))


def test_an_id_used_by_another_client_too_is_the_callers_own_and_ambiguous_to_who_has_none(
    make_app: MakeApp, published_state: Path, tmp_path: Path, rows: Rows
) -> None:
    path = tmp_path / "tokens.json"
    victim, evil, auditor = (
        {"Authorization": f"Bearer {create(path, name, scopes)}"}
        for name, scopes in (
            ("victim", ("predict", "feedback")),
            ("evil", ("predict", "feedback")),
            ("auditor", ("feedback:any",)),
        )
    )
    database_url = f"sqlite:///{tmp_path}/records.sqlite"
    app = make_app(published_state, tokens_file=str(path), database_url=database_url)
    client, store = client_of(app), app.service.store
    assert store is not None
    named = {"X-Request-Id": "order-41"}
    body = {"instances": rows[:1].tolist()}
    for token in (victim, evil):
        assert client.post("/predict", json=body, headers=token | named).status_code == 200
    other = client.post("/predict", json=body, headers=victim).get_json()["id"]

    def there() -> bool:
        found = store.find([Key("order-41", 0), Key(other, 0)])
        return len(found) == 2 and found[Key("order-41", 0)].shared

    wait_until(there, what="three records")
    items = [{"id": "order-41", "label": "2"}, {"id": other, "label": "2"}]
    refused = client.post("/feedback", json=[*items, {"id": "no", "label": "2"}], headers=auditor)
    assert refused.status_code == 409, refused.text
    problem = refused.get_json()
    assert (problem["ambiguous"], problem["unknown"]) == (["order-41/0"], ["no/0"])
    assert (problem["field"], problem["accepted"]) == ("[0].id", 1)
    for token, label in ((evil, "7"), (victim, "3")):
        item = {"id": "order-41", "label": label}
        answer = client.post("/feedback", json=item, headers=token)
        assert answer.status_code == 200, answer.text
        assert answer.get_json()["results"][0]["counts"]
    kept = store.labelled("digits", app.service.champions.find("digits").manifest.input)
    assert list(zip(kept.y.tolist(), kept.askers, strict=True)) == [
        (3, "token victim"), (7, "token evil"), (2, "token victim"),
    ]  # fmt: skip


def test_an_own_record_that_is_late_is_waited_for_where_another_has_used_the_id(
    make_app: MakeApp, published_state: Path, tmp_path: Path
) -> None:
    path = tmp_path / "tokens.json"
    token = {"Authorization": f"Bearer {create(path, 'victim', ('predict', 'feedback'))}"}
    url = f"sqlite:///{tmp_path}/records.sqlite"
    app = make_app(
        published_state, tokens_file=str(path), database_url=url, feedback_wait_seconds=60
    )
    store = app.service.store
    assert store is not None
    early = Record("late", 0, time.time(), "digits", 1, b"\0" * 256, 7, 0.5, 0.1, 0.9, 0.3, "evil")
    store.add([early])

    def write_late() -> None:
        time.sleep(0.1)
        store.add([early._replace(predicted=3, client="token victim")])

    thread = threading.Thread(target=write_late)
    thread.start()
    answer = client_of(app).post("/feedback", json={"id": "late", "label": "3"}, headers=token)
    thread.join()
    assert answer.status_code == 200, answer.text
    assert answer.get_json()["results"][0]["correct"]
