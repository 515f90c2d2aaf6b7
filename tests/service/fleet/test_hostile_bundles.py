"""A version that is not plain files is refused by whatever reads it; what serves goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from service.cli import main
from service.fleet.overrides import FILE, Repository
from tests import bundles
from tests.asgi import client_of
from tests.models.base.test_inside import CASES, refusal, swap
from tests.service.conftest import MakeApp


@CASES
def test_a_service_refuses_a_hostile_champion_and_serves_on(
    tmp_path: Path, make_app: MakeApp, make: Callable[[Path], Any], words: str
) -> None:
    root = tmp_path / "registry"
    bundles.publish(root)
    app = make_app(tmp_path, reload_interval_seconds=3600)
    bundles.publish(root)
    swap(root / "digits" / "2" / "model.onnx", make)
    app.service.champions.refresh()
    (state,) = app.service.champions.index()
    assert (state.version, state.state) == (1, "READY")
    assert words in state.reason
    body = {"instances": bundles.digits().test.x[:1].tolist()}
    assert client_of(app).post("/predict", json=body).get_json()["version"] == 1


@CASES
def test_commands_refuse_a_hostile_version_by_name(
    tmp_path: Path, make: Callable[[Path], Any], words: str
) -> None:
    root = tmp_path / "registry"
    bundles.publish(root)
    swap(root / "digits" / "1" / "reference.npz", make)
    for command in (("models", "verify", "digits"), ("models", "sign", "digits", "1"), ("doctor",)):
        told = CliRunner().invoke(main, command, env=_environment(tmp_path))
        assert told.exit_code != 0, command
        assert "reference.npz" in told.output
        assert words in told.output


@CASES
def test_what_operators_said_is_a_file(
    tmp_path: Path, make: Callable[[Path], Any], words: str
) -> None:
    make(tmp_path / FILE)
    message = refusal(Repository(tmp_path).read)
    assert FILE in message
    assert words in message


def _environment(state: Path) -> dict[str, str]:
    return {"HOLDFAST_STATE": str(state), "HOLDFAST_SIGNING_KEY_FILE": str(state / "no.pem")}
