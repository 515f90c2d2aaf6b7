"""Labels while the store is locked, hangs or is not there: refused, bounded, and never lost."""

import sqlite3
import statistics
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from werkzeug.test import Client

from monitoring.records.store import Key
from service.app import Application
from service.protocols import feedback
from tests.asgi import client_of
from tests.service.conftest import MakeApp
from tests.waiting import wait_until

Rows = np.ndarray[Any, np.dtype[np.float32]]
PATIENCE = 0.5  # of the application's gate
PAUSE = 30.0  # what a machine that others use may take for a call; far more is a hang


@pytest.fixture
def app(
    make_app: MakeApp, published_state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Application:
    """An application on a store of its own, which is not there yet."""
    monkeypatch.setattr(feedback, "PATIENCE_SECONDS", PATIENCE)
    url = f"sqlite:///{tmp_path}/folder/records.sqlite"
    return make_app(published_state, database_url=url, feedback_wait_seconds=0.6)


def predict(client: Client, rows: Rows, name: str) -> None:
    body = {"instances": rows[:1].tolist()}
    answer = client.post("/predict", json=body, headers={"X-Request-Id": name})
    assert answer.status_code == 200


def label(client: Client, name: str) -> tuple[int, float]:
    """The status of the answer, and the seconds that it took."""
    began = time.monotonic()
    answer = client.post("/feedback", json={"id": name, "label": "1"})
    if answer.status_code == 503:
        assert int(answer.headers["Retry-After"]) >= 1
    return answer.status_code, time.monotonic() - began


def label_until_kept(client: Client, name: str) -> None:
    wait_until(lambda: label(client, name)[0] == 200, what=f"the label of {name}", every=0.1)


def refused_without_a_wait(client: Client, rows: Rows) -> None:
    """While the store fails, one call in a while tries it; the others cost no wait."""
    waits = []
    for index in range(20):
        status, seconds = label(client, "a")
        assert status == 503
        waits.append(seconds)
        predict(client, rows, f"b{index}")
    assert statistics.median(waits) < PATIENCE


def kept(app: Application) -> int:
    assert app.service.store is not None
    return app.service.store.counts("digits").labelled


def test_a_locked_store_costs_one_label_a_wait_and_the_next_ones_nothing(
    app: Application, tmp_path: Path, rows: Rows
) -> None:
    client = client_of(app)
    predict(client, rows, "a")
    label_until_kept(client, "a")
    other = sqlite3.connect(tmp_path / "folder" / "records.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    status, seconds = label(client, "a")
    assert (status, PATIENCE <= seconds < PATIENCE + PAUSE) == (503, True)
    refused_without_a_wait(client, rows)
    other.execute("COMMIT")
    other.close()
    label_until_kept(client, "b19")  # its record waited in the queue
    assert kept(app) == 2


def test_a_label_whose_record_cannot_be_written_now_is_to_be_sent_again(
    app: Application, tmp_path: Path, rows: Rows
) -> None:
    client = client_of(app)
    predict(client, rows, "a")
    label_until_kept(client, "a")
    other = sqlite3.connect(tmp_path / "folder" / "records.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    predict(client, rows, "b")
    assert label(client, "b")[0] == 503  # and not 404: that would be for good
    other.execute("COMMIT")
    other.close()
    label_until_kept(client, "b")


def test_a_store_that_hangs_is_waited_for_once(
    app: Application, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, goes_on = client_of(app), threading.Event()
    predict(client, rows, "a")
    label_until_kept(client, "a")
    with monkeypatch.context() as patch:
        patch.setattr(app.service.store, "find", lambda keys, client: goes_on.wait(120) and {})
        status, seconds = label(client, "a")
        assert (status, PATIENCE <= seconds < PATIENCE + PAUSE) == (503, True)
        refused_without_a_wait(client, rows)
    goes_on.set()
    label_until_kept(client, "a")


def test_few_labels_wait_for_their_records_and_the_others_are_told_to_come_again(
    app: Application, rows: Rows
) -> None:
    predict(client_of(app), rows, "a")
    label_until_kept(client_of(app), "a")
    answers: list[tuple[int, float]] = []
    together = threading.Barrier(6)

    def send() -> None:
        client = client_of(app)
        together.wait(120)
        answers.append(label(client, "nobody"))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(status for status, _ in answers) == {404: 2, 503: 4}
    took = {code: [t for status, t in answers if status == code] for code in (404, 503)}
    assert statistics.median(took[503]) < min(took[404])


def test_a_store_that_comes_later_takes_labels_without_a_restart(
    app: Application, tmp_path: Path, rows: Rows
) -> None:
    client, folder = client_of(app), tmp_path / "folder"
    folder.write_text("in the way")
    predict(client, rows, "lost")
    assert label(client, "lost")[0] == 503
    dropped = 'holdfast_records_dropped_total{reason="store"} 1.0'
    wait_until(lambda: dropped in client.get("/metrics").text, what="a record is dropped")
    folder.unlink()
    predict(client, rows, "a")
    label_until_kept(client, "a")
    assert app.service.store is not None
    assert not app.service.store.find([Key("lost", 0)])
