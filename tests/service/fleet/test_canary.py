"""Laws of a canary: its share, always the same clients, and no request that it costs."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.versions.registry import Registry
from models.versions.registry_state import MOST_SHARE, Canary
from monitoring.counting.metrics import Metrics
from monitoring.records.store import Key, RecordStore
from service.app import Application
from service.configuration.proxies import Proxies
from service.fleet.canary import place
from service.fleet.served_models import Champions
from service.web.call import Call
from tests import bundles
from tests.asgi import client_of
from tests.service.conftest import MakeApp
from tests.service.fleet.test_live_runner import broken
from tests.service.fleet.test_served_models import damage, failures

SCOPE = {"type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b""}
WHY: Any = {"actor": "test", "reason": "test"}
CLIENTS = 4000


def begin(registry: Registry, share: float = MOST_SHARE, seconds: float = 600.0) -> None:
    canary = Canary(2, share, time.time() + seconds, "job")
    registry.begin_canary("digits", canary, expected=1, **WHY)


def call_from(peer: str, *headers: tuple[str, str], proxies: str = "") -> Call:
    """A call without a token, as the guard lets it in."""
    sent = [(name.encode(), value.encode()) for name, value in headers]
    call = Call({**SCOPE, "headers": sent, "client": (peer, 1)}, 1)
    call.caller = Proxies(proxies).client(peer, call.header("x-forwarded-for"))
    return call


def version_for(champions: Champions, client: str) -> int:
    call = Call({**SCOPE, "headers": []}, 1)
    call.actor = client
    return champions.choose("digits", call).manifest.version


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Version 1 serves, 2 is the challenger."""
    root = tmp_path / "state" / "registry"
    bundles.publish(root)
    bundles.publish(root, bend=0.5, promote=False)
    return Registry(root)


@pytest.fixture
def app(registry: Registry, tmp_path: Path, make_app: MakeApp) -> Application:
    return make_app(tmp_path / "state", reload_interval_seconds=3600)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_share_of_the_clients_is_what_was_asked_for_and_each_keeps_its_side(share: float) -> None:
    there = {
        salt: np.array([place(salt, f"token {k}") < share for k in range(CLIENTS)])
        for salt in ("one", "two")
    }
    sigma = np.sqrt(share * (1 - share) / CLIENTS)
    for chosen in there.values():
        assert abs(chosen.mean() - share) < 5 * sigma
    both = (there["one"] & there["two"]).mean()
    assert abs(both - share**2) < 5 * np.sqrt(share**2 / CLIENTS), "another job, other clients"


def test_every_worker_sends_a_client_to_the_same_version(registry: Registry) -> None:
    begin(registry, 0.3)
    sides = []
    for _ in range(2):
        worker = Champions(registry, Metrics())
        worker.refresh()
        sides.append([version_for(worker, f"token {k}") for k in range(300)])
    assert (
        sides[0] == sides[1] == [2 if place("job", f"token {k}") < 0.3 else 1 for k in range(300)]
    )
    assert set(sides[0]) == {1, 2}


@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "behind a trusted proxy"])
def test_a_client_without_a_token_keeps_its_version_by_its_address(
    registry: Registry, proxied: bool
) -> None:
    begin(registry, 0.3)
    champions = Champions(registry, Metrics())
    champions.refresh()

    def version(address: str, number: int) -> int:
        sent = [("x-request-id", f"r{number}")]
        if proxied:
            sent.append(("x-forwarded-for", address))
        call = call_from("10.0.0.1" if proxied else address, *sent, proxies="10.0.0.0/8")
        return champions.choose("digits", call).manifest.version

    addresses = [f"192.0.2.{k}" for k in range(200)]
    expected = [2 if place("job", f"address {a}") < 0.3 else 1 for a in addresses]
    for number in range(3):
        assert [version(a, number) for a in addresses] == expected
    assert set(expected) == {1, 2}


@pytest.mark.parametrize(
    ("peer", "header"),
    [("127.0.0.1", None), ("::1", None), ("203.0.113.1", "x-forwarded-for"),
     ("2001:db8::1", "x-forwarded-for"), ("::ffff:203.0.113.1", "forwarded")],
)  # fmt: skip
def test_an_address_that_stands_for_many_clients_does_not_get_all_or_nothing(
    registry: Registry, peer: str, header: str | None
) -> None:
    begin(registry, 0.3)
    champions = Champions(registry, Metrics())
    champions.refresh()
    sent = [] if header is None else [(header, "198.51.100.7")]
    calls = [call_from(peer, *sent, ("x-request-id", f"r{k}")) for k in range(200)]
    found = [champions.choose("digits", call).manifest.version for call in calls]
    assert found == [2 if place("job", f"r{k}") < 0.3 else 1 for k in range(200)]


@pytest.mark.parametrize("how", ["end", "until", "hold", "rollback", "promote", "withdraw"])
def test_it_ends(registry: Registry, how: str) -> None:
    begin(registry, seconds=600.0 if how != "until" else 0.5)
    champions = Champions(registry, Metrics())
    champions.refresh()
    chosen = next(f"token {k}" for k in range(99) if place("job", f"token {k}") < MOST_SHARE)
    other = next(f"token {k}" for k in range(99) if place("job", f"token {k}") >= MOST_SHARE)
    if how != "until":
        assert version_for(champions, chosen) == 2
    match how:
        case "end":
            registry.end_canary("digits", "another job", **WHY)
            assert registry.state("digits").canary is not None
            registry.end_canary("digits", "job", **WHY)
        case "until":
            time.sleep(0.6)  # nobody ends it, and nobody looks
            assert version_for(champions, chosen) == 1
        case "hold":
            registry.hold("digits", **WHY)
        case "rollback":
            registry.promote("digits", 2, expected=1, **WHY)
            registry.rollback("digits", **WHY)
        case "promote":
            registry.promote("digits", 2, expected=1, **WHY)
        case _:
            registry.withdraw("digits", 2, **WHY)
    assert registry.state("digits").find_canary(time.time()) is None
    champions.refresh()
    assert not champions._view.canaries, "its memory is free"
    assert version_for(champions, chosen) == version_for(champions, other)


def test_a_canary_that_is_damaged_costs_nothing(registry: Registry) -> None:
    begin(registry)
    damage(registry.path("digits", 2) / "model.onnx")
    champions = Champions(registry, Metrics())
    champions.refresh()
    assert {version_for(champions, f"token {k}") for k in range(50)} == {1}
    assert failures(champions) == 1
    champions.refresh()
    assert failures(champions) == 1, "it is not tried over and over"
    assert champions.ready


def test_a_request_that_the_canary_cannot_run_is_answered_by_the_champion(
    registry: Registry, app: Application, rows: Any, tmp_path: Path
) -> None:
    begin(registry)
    service = app.service
    service.champions.refresh()
    client = client_of(app)
    ids = [f"r{k}" for k in range(40)]
    body = {"instances": rows[:1].tolist()}

    def ask(name: str, path: str = "/predict") -> dict[str, Any]:
        answer = client.post(path, json=body, headers={"X-Request-Id": name})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json
        return found

    expected = [2 if place("job", name) < MOST_SHARE else 1 for name in ids]
    assert [ask(name)["version"] for name in ids] == expected
    sent = next(name for name in ids if place("job", name) < MOST_SHARE)
    broken(service.champions._view.canaries["digits"].challenger.runner, rows=0)
    assert {ask(f"{name}-{k}")["version"] for name in ids for k in range(2)} == {1}
    service.champions.refresh()
    assert not service.champions._view.canaries
    app.close()
    store = RecordStore(f"sqlite:///{tmp_path}/state/records.sqlite")
    assert store.find([Key(sent, 0)])[Key(sent, 0)].version == 2
