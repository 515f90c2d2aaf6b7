"""`holdfast tokens` and `holdfast models sign`."""

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from models.versions.bundle import open_bundle
from models.versions.registry import Registry
from models.versions.signature import Keys
from service.access.auth import read
from service.cli import main
from tests.models.versions.test_registry import publish
from tests.printed import data_of


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOLDFAST_STATE", str(tmp_path))
    return tmp_path


def holdfast(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_a_token_is_made_shown_once_listed_and_revoked(state: Path) -> None:
    made = holdfast("tokens", "create", "app", "--scope", "predict", "--scope", "feedback")
    assert made.exit_code == 0
    secret = made.stdout.strip()
    assert secret.startswith("holdfast_")
    assert "shown once" in made.stderr
    listed = holdfast("tokens", "list")
    assert listed.stdout.splitlines()[1].split()[:2] == ["app", "predict,feedback"]
    assert listed.stdout.splitlines()[1].endswith("never")
    assert secret not in listed.stdout + holdfast("tokens", "list", "--json").stdout
    assert "within a second" in holdfast("tokens", "revoke", "app").stdout
    assert read(state / "tokens.json") == ()


def test_scripts_get_json(state: Path) -> None:
    made = holdfast("tokens", "create", "ops", "--scope", "admin", "--expires", "30d", "--json")
    told = data_of(made.stdout)
    assert (told["name"], told["scopes"]) == ("ops", ["admin"])
    (row,) = data_of(holdfast("tokens", "list", "--json").stdout)
    (token,) = read(state / "tokens.json")
    assert token.expires is not None
    assert (token.expires - token.created).days == 30
    assert row["expired"] is False
    assert row["expires"].startswith(token.expires.date().isoformat())


def test_without_a_file_the_list_says_what_that_means(state: Path) -> None:
    assert "lets everybody in" in holdfast("tokens", "list").stdout
    assert data_of(holdfast("tokens", "list", "--json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("create", "app"), 2, "--scope"),
        (("create", "app", "--scope", "root"), 2, "predict"),
        (("create", "app", "--scope", "predict", "--expires", "soon"), 2, "such as 12h or 30d"),
        (("create", "app", "--scope", "predict", "--expires", "0d"), 2, "such as 12h or 30d"),
        (("create", "a b", "--scope", "predict"), 1, "at most 64"),
        (("revoke", "nobody"), 1, "no token 'nobody'; known: none"),
    ],
)
def test_wrong_usage_is_told(
    state: Path, arguments: tuple[str, ...], status: int, says: str
) -> None:
    done = holdfast("tokens", *arguments)
    assert done.exit_code == status
    assert says in done.stderr


def test_a_version_is_signed_by_hand(state: Path) -> None:
    pytest.importorskip("cryptography")
    publish(Registry(state / "registry"))
    key, trusted = state / "signing.pem", state / "trusted.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", trusted], check=True)
    assert holdfast("models", "sign", "tiny", "1").exit_code == 2
    done = holdfast("models", "sign", "tiny", "1", "--key", str(key))
    assert done.stdout == "tiny/1 is signed\n"
    open_bundle(state / "registry" / "tiny" / "1", Keys(trusted=str(trusted)))
    missing = holdfast("models", "sign", "tiny", "1", "--key", str(state / "absent"))
    assert missing.exit_code == 1
    assert "expected a readable file" in missing.stderr
