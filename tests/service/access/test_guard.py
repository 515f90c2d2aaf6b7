"""Who is let in, by which name, and what the others are told: through the front."""

import hmac
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from werkzeug.test import Client

from service.access import auth
from service.access.auth import create, revoke
from service.access.guard import exposure, guard_of
from service.configuration.settings import load
from service.web.call import Call, Endpoint
from service.web.front import Front, RequestBounds
from service.web.reply import Reply
from tests.asgi import client_of

SCOPES = ("open", "predict", "feedback", "admin")
Make = Callable[..., Client]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(auth, "LOOK_SECONDS", 0.0)
    return tmp_path


@pytest.fixture
def make(state: Path) -> Make:
    """Clients of a front with one endpoint per scope, which answers with the caller's name."""

    def made(**values: Any) -> Client:
        guard = guard_of(load(environment(state, **values)))

        def handler(call: Call) -> Reply:
            return Reply(call.caller.encode())

        endpoints = [
            Endpoint(method, f"/{root}{scope}", handler, scope, hot=scope == "predict")
            for scope in SCOPES
            for method, root in (("POST", ""), ("POST", "v2/"))
        ]
        return client_of(Front(endpoints, guard, lambda *_: None, RequestBounds(1000)))

    return made


def environment(state: Path, **values: Any) -> dict[str, str]:
    given = {f"HOLDFAST_{name.upper()}": str(value) for name, value in values.items()}
    return {"HOLDFAST_STATE": str(state), **given}


def ask(client: Client, scope: str, secret: str = "", **headers: str) -> Any:
    given = headers | ({"Authorization": f"Bearer {secret}"} if secret else {})
    return client.post(f"/{scope}", headers=given, environ_base={"REMOTE_ADDR": "192.0.2.7"})


def statuses(client: Client, secret: str = "") -> list[int]:
    return [ask(client, scope, secret).status_code for scope in SCOPES]


def test_without_tokens_a_machine_of_ones_own_is_open_but_for_admin_calls(make: Make) -> None:
    client = make()
    assert statuses(client) == [200, 200, 200, 401]
    assert statuses(client, "anything") == [200, 200, 200, 401]


def test_admin_calls_take_the_token_of_the_watcher(make: Make, state: Path) -> None:
    client = make()
    ask(client, "admin", "the first call makes it")
    secret = (state / "run" / "admin_token").read_text()
    assert ask(client, "admin", secret).text == "token the admin token"
    create(state / "tokens.json", "app", ("predict",))
    assert statuses(client, secret) == [200, 401, 401, 200], "it opens nothing else"


def test_admin_calls_take_the_token_of_the_file_that_is_set(make: Make, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_text("an admin token of one's own")
    client = make(admin_token_file=given)
    assert ask(client, "admin", "an admin token of one's own").status_code == 200
    given.unlink()
    with capture_logs() as logs:
        assert ask(client, "admin", "an admin token of one's own").status_code == 401
    assert logs[0]["event"] == "admin_token_refused"


def test_every_call_but_open_ones_needs_a_token_of_its_scope(make: Make, state: Path) -> None:
    client, path = make(), state / "tokens.json"
    app = create(path, "app", ("predict",))
    labels = create(path, "labels", ("feedback",))
    boss = create(path, "boss", ("admin",))
    assert statuses(client) == [200, 401, 401, 401]
    assert statuses(client, "unknown") == [200, 401, 401, 401]
    assert statuses(client, app) == [200, 200, 403, 403]
    assert statuses(client, labels) == [200, 403, 200, 403]
    assert statuses(client, boss) == [200, 200, 200, 200]
    revoke(path, "app")
    assert statuses(client, app) == [200, 401, 401, 401]


def test_refusals_say_what_was_wrong_as_rfc_6750_has_it(make: Make, state: Path) -> None:
    client, path = make(), state / "tokens.json"
    app = create(path, "app", ("predict",))
    over = create(path, "over", ("predict",), timedelta(seconds=-1))

    def told(scope: str, secret: str = "") -> tuple[str, str]:
        answer = ask(client, scope, secret)
        return answer.headers["WWW-Authenticate"], answer.get_json()["detail"]

    challenge, detail = told("predict")
    assert challenge == 'Bearer realm="holdfast"'
    assert detail.startswith("this call needs a token of scope predict")
    challenge, detail = told("predict", "unknown")
    assert challenge == 'Bearer realm="holdfast", error="invalid_token"'
    assert detail.startswith("the token is no token of this service")
    assert "the token is expired" in told("predict", over)[1]
    challenge, detail = told("feedback", app)
    assert challenge == 'Bearer realm="holdfast", error="insufficient_scope", scope="feedback"'
    assert detail == "this call needs a token of scope feedback"
    assert set(client.post("/v2/predict").get_json()) == {"error"}, "in the dialect of the address"


def test_who_listens_to_the_network_without_tokens_says_so_and_has_no_admin_calls(
    make: Make, state: Path
) -> None:
    client, values = make(host="0.0.0.0"), environment(state, host="0.0.0.0")
    assert exposure(load(values)) == (
        "the service listens on 0.0.0.0 and has no tokens: who reaches it may ask for predictions "
        "and send labels"
    )
    (state / "run").mkdir()
    (state / "run" / "admin_token").write_text("the token of the watcher")
    answer = ask(client, "admin", "the token of the watcher")
    assert answer.status_code == 403
    assert "admin calls are refused: make a token" in answer.get_json()["detail"]
    assert statuses(client)[:3] == [200, 200, 200]

    boss = create(state / "tokens.json", "boss", ("admin",))
    assert ask(client, "admin", boss).status_code == 200
    assert ask(client, "admin", "the token of the watcher").status_code == 200
    assert exposure(load(values)) is None
    assert exposure(load(environment(state / "elsewhere"))) is None


def test_a_tokens_file_that_is_set_and_absent_lets_nobody_in(make: Make, tmp_path: Path) -> None:
    client = make(tokens_file=tmp_path / "absent.json")
    assert statuses(client) == [200, 401, 401, 401]
    answer = ask(client, "predict", "whatever")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    secret = create(tmp_path / "absent.json", "app", ("predict",))
    assert ask(client, "predict", secret).text == "token app"


def test_a_caller_is_its_verified_token_else_its_address(make: Make, state: Path) -> None:
    client = make()
    assert ask(client, "predict").text == "192.0.2.7"
    assert ask(client, "predict", "claimed").text == "192.0.2.7", "nobody verified it"
    secret = create(state / "tokens.json", "app", ("predict",))
    assert ask(client, "predict", secret).text == "token app"
    assert ask(make(query_key="address"), "predict", secret).text == "192.0.2.7"
    behind = make(trusted_proxies="192.0.2.0/24", query_key="address")
    forwarded = {"X-Forwarded-For": "198.51.100.4"}
    assert ask(behind, "predict", secret, **forwarded).text == "198.51.100.4"


def test_limits_refuse_with_429_and_count_what_was_let_in_only(make: Make, state: Path) -> None:
    client = make(rate_per_second=0.5, rate_burst=2)
    assert [ask(client, "predict").status_code for _ in range(3)] == [200, 200, 429]
    answer = ask(client, "predict")
    assert answer.headers["Retry-After"] in ("1", "2")
    assert answer.get_json()["detail"] == "at most 0.5 calls a second (and 2 at once)"
    assert [ask(client, "open").status_code for _ in range(5)] == [200] * 5
    app = create(state / "tokens.json", "app", ("predict",))
    for _ in range(5):
        assert ask(client, "predict").status_code == 401
    assert [ask(client, "predict", app).status_code for _ in range(3)] == [200, 200, 429]


def test_a_call_frees_its_place_also_when_it_fails(state: Path) -> None:
    guard = guard_of(load(environment(state, client_concurrency=1)))

    def handler(call: Call) -> Reply:
        raise RuntimeError("inside")

    front = Front(
        [Endpoint("POST", "/p", handler, "predict")], guard, lambda *_: None, RequestBounds(1000)
    )
    assert [client_of(front).post("/p").status_code for _ in range(3)] == [500] * 3


HEADERS = st.one_of(
    st.binary(max_size=80).map(lambda b: b.decode("latin-1")),
    st.text(max_size=30).map(lambda t: f"Bearer {t}".encode("utf-8", "replace").decode("latin-1")),
    st.sampled_from(["Bearer", "Bearer ", "Bearer\t", "bearer  x y", "Basic YTpi", "Bearer " * 9]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(HEADERS, st.sampled_from(SCOPES[1:]))
def test_no_header_gets_in_by_its_form(state: Path, header: str, scope: Any) -> None:
    path = state / "tokens.json"
    if not path.exists():
        create(path, "app", ("predict",))
    front = Front(
        [Endpoint("POST", "/x", lambda call: Reply(b""), scope)],
        guard_of(load(environment(state))), lambda *_: None, RequestBounds(1000),
    )  # fmt: skip
    answer = client_of(front).post("/x", environ_base={"HTTP_AUTHORIZATION": header})
    assert answer.status_code == 401


def test_secrets_are_compared_in_constant_time(
    make: Make, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    constant = hmac.compare_digest

    def counted(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return constant(a, b)

    monkeypatch.setattr(hmac, "compare_digest", counted)
    client = make()
    create(state / "tokens.json", "app", ("predict",))
    ask(client, "admin", "a guess"), ask(client, "admin", "a much longer guess" * 9)
    assert compared == [(32, 32)] * 4, "digests, so that not even the length is told"
