"""Tokens at rest and in force."""

import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from service.access import auth
from service.access.auth import Tokens, create, read, revoke, secret_in
from service.web.errors import SettingsError, StateError, UnavailableError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "tokens.json"


@pytest.fixture(autouse=True)
def _looks_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "LOOK_SECONDS", 0.0)


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


def test_a_secret_is_long_random_recognisable_and_kept_nowhere(path: Path) -> None:
    secrets = {create(path, f"t{k}", ("predict",)) for k in range(5)}
    assert len(secrets) == 5
    assert all(s.startswith("holdfast_") and len(s) == 9 + 43 for s in secrets)
    for file in path.parent.iterdir():
        assert not any(s.encode() in file.read_bytes() for s in secrets), file


def test_only_the_owner_reads_the_file(path: Path) -> None:
    create(path, "first", ("predict",))
    path.chmod(0o644)
    create(path, "second", ("admin",))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_secret_finds_its_own_token_and_nothing_else_finds_it(path: Path) -> None:
    secrets = {name: create(path, name, ("predict",)) for name in ("a", "b", "c")}
    tokens = Tokens(path)
    for _ in range(2):  # the second time from what was verified
        for name, secret in secrets.items():
            found = tokens.find(secret)
            assert found is not None
            assert found.name == name
    assert tokens.find(read(path)[0].sha256) is None, "the digest is not the secret"

    @given(st.text(max_size=60), st.integers(0, 51), st.characters())
    def nothing_else(text: str, place: int, other: str) -> None:
        secret = secrets["a"]
        changed = secret[:place] + other + secret[place + 1 :]
        for wrong in (text, changed if changed != secret else "", secret[:place]):
            assert tokens.find(wrong) is None

    nothing_else()


def test_an_unknown_secret_is_compared_with_every_token_wherever_it_would_match(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = [create(path, f"t{k}", ("predict",)) for k in range(4)]
    compared = []

    def counted(a: bytes, b: bytes) -> bool:
        compared.append(a)
        return a == b

    monkeypatch.setattr(auth.hmac, "compare_digest", counted)
    for secret in (secrets[0], secrets[3], "unknown"):
        tokens = Tokens(path)
        compared.clear()
        tokens.find(secret)
        assert len(set(compared)) == len(compared) == 4


def test_scopes_hold_and_admin_implies_all(path: Path) -> None:
    create(path, "app", ("predict", "predict", "feedback"))
    create(path, "boss", ("admin",))
    app, boss = read(path)
    assert app.scopes == ("predict", "feedback")
    assert [app.allows(s) for s in ("predict", "feedback", "admin")] == [True, True, False]
    assert all(boss.allows(s) for s in ("predict", "feedback", "admin"))


def test_a_token_expires_when_its_time_is_over(path: Path) -> None:
    create(path, "short", ("predict",), timedelta(seconds=-1))
    create(path, "long", ("predict",), timedelta(days=1))
    create(path, "ever", ("predict",))
    assert [token.expired() for token in read(path)] == [True, False, False]


def test_names_are_unique_and_plain(path: Path) -> None:
    create(path, "app", ("predict",))
    with pytest.raises(StateError, match="there is a token 'app'"):
        create(path, "app", ("admin",))
    for name in ("", "a b", "-x", "é", "x" * 65, "a\n"):
        with pytest.raises(StateError, match="use A-Z a-z 0-9"):
            create(path, name, ("predict",))


def test_tokens_that_are_made_at_once_all_exist(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda k: create(path, f"t{k}", ("predict",)), range(24)))
    tokens = Tokens(path)
    assert all(tokens.find(secret) for secret in made)


def test_running_services_follow_the_file(path: Path) -> None:
    tokens = Tokens(path)
    assert not tokens.needs_tokens(), "no file: nobody needs a token"
    secret = create(path, "app", ("predict",))
    assert tokens.needs_tokens()
    assert tokens.find(secret)
    revoke(path, "app")
    assert tokens.needs_tokens(), "the last one revoked is no invitation"
    assert tokens.find(secret) is None
    with pytest.raises(StateError, match="no token 'app'; known: none"):
        revoke(path, "app")


@pytest.mark.parametrize("harm", ["cut", "gone", "twice", "unknown field", "writable by all"])
def test_a_damaged_file_is_told_and_changes_nothing(path: Path, harm: str, logs: list[Any]) -> None:
    secret = create(path, "app", ("predict",))
    whole = path.read_bytes()
    tokens = Tokens(path)
    _damage(path, harm)
    for _ in range(3):
        assert tokens.needs_tokens()
    assert tokens.find(secret), "the tokens read last stay in force"
    errors = [line for line in logs if line["event"] == "tokens_refused"]
    assert len(errors) == 1, "once per change, not once per look"
    assert errors[0]["log_level"] == "error"
    assert errors[0]["kept"] == 1

    fresh = Tokens(path, required=True)
    assert fresh.needs_tokens()
    with pytest.raises(UnavailableError, match="cannot be read"):
        fresh.find(secret)
    assert logs[-1]["kept"] == "none: nobody is let in"

    auth.write_atomic(path, whole, mode=0o600)
    for mended in (tokens, fresh):
        assert mended.needs_tokens()
        assert mended.find(secret)
    assert not any(secret in str(line) for line in logs)


def _damage(path: Path, harm: str) -> None:
    held = msgspec.json.decode(path.read_bytes())
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif harm == "gone":
        path.unlink()
    elif harm == "writable by all":
        path.chmod(0o666)
    else:
        held["tokens"] *= 2
        if harm == "unknown field":
            held["tokens"] = [held["tokens"][0] | {"scope": "admin"}]
        path.write_bytes(msgspec.json.encode(held))


def test_a_secret_of_a_file_is_made_once_for_all_and_only_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "run" / "admin_token"
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: secret_in("", path), range(16)))
    assert len(found) == 1
    assert len(found.pop()) == 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_secret_that_is_set_must_be_there_and_long_enough(tmp_path: Path) -> None:
    given_file = tmp_path / "given"
    with pytest.raises(SettingsError, match="a readable file"):
        secret_in(str(given_file), tmp_path / "unused")
    given_file.write_text("short\n")
    with pytest.raises(SettingsError, match="at least 16 characters") as told:
        secret_in(str(given_file), tmp_path / "unused")
    assert "short" not in str(told.value)
    given_file.write_text("sixteen letters!\n")
    assert secret_in(str(given_file), tmp_path / "unused") == "sixteen letters!"
    assert list(tmp_path.iterdir()) == [given_file]
