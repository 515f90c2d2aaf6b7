"""What the page shows first: nobody waits long for it, and no word is green that is not known."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.app import make_console
from service.console import relay as relays
from service.console import state as documents
from service.console.state import States
from tests.service.conftest import MakeApp
from tests.service.console.watching import ALARM, FakeWatcher, Silent, model_row
from tests.waiting import wait_until

REFUSED = [{"service": "http://127.0.0.1", "status": "refused", "since": 5.0}]


@pytest.fixture
def watcher() -> Iterator[FakeWatcher]:
    made = FakeWatcher()
    yield made
    made.close()


def states_of(make_app: MakeApp, state: Path, url: str) -> States:
    console = make_console(make_app(state, watch_url=url).service)
    assert console is not None
    return console.states


def models(states: States) -> list[dict[str, Any]]:
    states.forget()
    told: list[dict[str, Any]] = json.loads(states.encode(None))["models"]
    return told


def test_pages_of_a_silent_watcher_cost_one_question_together(
    make_app: MakeApp, published_state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(relays, "AWAY_SECONDS", 1e9)
    silent = Silent()
    states, told = states_of(make_app, published_state, silent.url), list[str]()

    def read(k: int) -> None:
        if k % 2:
            told.append(json.loads(states.encode(None))["watcher"])
        else:
            told.append(states.view("digits", time.time()).watcher)

    threads = [threading.Thread(target=read, args=(k,)) for k in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    silent.close()
    assert told == ["away"] * 12
    assert silent.taken == 1


def test_while_one_thread_makes_the_document_the_others_take_the_one_before(
    make_app: MakeApp, published_state: Path, watcher: FakeWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(documents, "OLD_SECONDS", 1e9)
    states = states_of(make_app, published_state, watcher.url)
    before, make, gate, made = states.encode(None), states.make, threading.Event(), list[str]()

    def make_slowly(*args: Any) -> Any:
        made.append(threading.current_thread().name)
        if made[-1] == "slow":
            gate.wait(60)
        return make(*args)

    monkeypatch.setattr(states, "make", make_slowly)
    slow = threading.Thread(target=states.encode, args=(None,), name="slow")
    slow.start()
    wait_until(lambda: made == ["slow"])
    assert states.encode(None) == before
    assert made == ["slow"], "the one before was given"
    monkeypatch.setattr(documents, "PATIENCE_SECONDS", 0.05)
    states.forget()
    states.encode(None)
    assert len(made) == 2, "what somebody changed is never shown as it was before"
    gate.set()
    slow.join(60)


def test_a_document_made_before_a_change_is_not_given_after_it(
    make_app: MakeApp, published_state: Path, watcher: FakeWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (documents, relays):
        monkeypatch.setattr(module, "FRESH_SECONDS", 1e9)
    states = states_of(make_app, published_state, watcher.url)
    first = states.encode(None)
    watcher.row = model_row(**ALARM)
    assert states.encode(None) == first
    states.relay.send("/demo", (), b"{}", "Bearer of-a-person")
    states.forget()
    assert states.encode(None) != first


@pytest.mark.parametrize(
    ("changes", "word", "tone"),
    [
        ({}, "nothing moved", "good"),
        ({"requests": 0}, "too early to say", "unknown"),
        ({"requests": None}, "too early to say", "unknown"),
        ({"evidence_log10": None}, "not known: no evidence", "unknown"),
        ({"services": REFUSED}, "not known: nothing is counted", "unknown"),
        (ALARM, "moved", "warn"),
        (
            {**ALARM, "services": REFUSED},
            "moved when last seen; not known: nothing is counted", "warn",
        ),
    ],
)  # fmt: skip
def test_a_word_of_the_list_is_good_only_where_it_is_known(
    changes: dict[str, Any], word: str, tone: str, make_app: MakeApp, published_state: Path,
    watcher: FakeWatcher,
) -> None:  # fmt: skip
    watcher.row = model_row(**changes)
    states = states_of(make_app, published_state, watcher.url)
    assert [(one["word"], one["tone"]) for one in models(states)] == [(word, tone)]


def test_no_word_is_good_once_the_watcher_is_away(
    make_app: MakeApp, published_state: Path, watcher: FakeWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "FRESH_SECONDS", 0.0)
    states = states_of(make_app, published_state, watcher.url)
    assert [one["tone"] for one in models(states)] == ["good"]
    watcher.close()
    assert [one["word"] for one in models(states)] == ["not known: the watcher is away"]
    document = json.loads(states.encode(None))
    tones = {one["tone"] for one in document["answers"] if one["question"] != "Is it serving?"}
    assert tones == {"unknown"}
    assert document["headline"]["tone"] != "good"
