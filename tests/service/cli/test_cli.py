"""Laws of the command line: one sentence and status 1 for what goes wrong, notes beside figures."""

import errno
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner, Result
from sqlalchemy.exc import OperationalError

from models.base.errors import DataError, TrainingError
from models.nets.factories import spec_for
from models.versions.registry import Registry
from service.cli import CONTEXT, CommandGroup
from service.cli.terminal.output import tell_notes
from service.cli.traffic.command import traffic
from service.cli.train import train
from service.configuration.settings import Settings
from tests import bundles, samples
from tests.conftest import Published


def fails_with(error: BaseException) -> Result:
    @click.command()
    def failing() -> None:
        raise error

    group = CommandGroup("holdfast", commands={"failing": failing}, context_settings=CONTEXT)
    return CliRunner().invoke(group, ["failing"])


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TrainingError("no rows"), "no rows"),
        (PermissionError(errno.EACCES, "Permission denied", "/data"), "/data: Permission denied; "),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; see to space"),
        (MemoryError(), "there was not enough memory"),
        (RuntimeError("[enforce fail] can't allocate memory: you tried"), "not enough memory"),
        (OperationalError("SELECT", {}, Exception("database is locked")), "the database is locked"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_status_1(error: Exception, says: str) -> None:
    done = fails_with(error)
    assert done.exit_code == 1
    assert done.stderr.startswith("holdfast: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("a bug"), ConnectionRefusedError()])
def test_what_nobody_foresaw_keeps_its_traceback(error: Exception) -> None:
    assert fails_with(error).exception is error


def test_ctrl_c_ends_a_command_with_130_and_without_a_word() -> None:
    done = fails_with(KeyboardInterrupt())
    assert (done.exit_code, done.output) == (130, "")


def run(tmp_path: Path, *args: str) -> Result:
    commands: dict[str, click.Command] = {"train": train, "traffic": traffic}
    group = CommandGroup("holdfast", commands=commands, context_settings=CONTEXT)
    return CliRunner().invoke(group, args, obj=Settings(state=tmp_path / "state"))


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--model", "../Evil"), "model name '../Evil': use a-z"),
        (("--eps", "8"), "holdfast: --eps: eps is in units of the [0, 1] range"),
        (("--test-eps", "8"), "holdfast: --test-eps: eps is in units of the [0, 1] range"),
        (("--fixed", "nope"), "holdfast: threat model: "),
        (("--method", "certified", "--test-eps", "0"), "holdfast: eps must be above 0"),
    ],
)
def test_training_refuses_before_it_trains(
    args: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    done = run(tmp_path, "train", "breast_cancer" if "--fixed" in args else "digits", *args)
    assert done.exit_code == 1
    assert says in done.stderr
    # Its folder is there where reading took a second: the page was told of the progress meanwhile.
    assert [each for each in (tmp_path / "state").rglob("*") if each.is_file()] == []


def test_traffic_of_an_unknown_model_names_the_known_ones(tmp_path: Path) -> None:
    done = run(tmp_path, "traffic", "--model", "nope", "--seconds", "1")
    assert (done.exit_code, done.stderr) == (1, "holdfast: unknown model 'nope'; known: none\n")


def test_a_start_from_other_weights_refuses_another_net(published: Published) -> None:
    from models.data import load_digits
    from service.cli.train import _order

    chosen: dict[str, Any] = {
        "quick": True,
        "test_eps": None,
        "fixed": (),
        "bound": (),
        "eps": 0.1,
        "method": None,
    }
    args = (published.registry, load_digits(), "digits")
    with pytest.raises(DataError, match="has another net than --net, --dropout"):
        _order(*args, "auto", {"dropout": 0.5, "batch_norm": False}, "1", dict(chosen))
    order = _order(*args, "auto", {"dropout": 0.0, "batch_norm": False}, "1", dict(chosen))
    kept = published.bundle.manifest.training.net
    assert msgspec.to_builtins(order.net) == kept
    assert spec_for(load_digits().schema, 10).factory == order.net.factory


def test_notes_say_what_few_rows_and_a_standing_champion_mean(
    published: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = published.bundle.manifest
    tell_notes(manifest, manifest.version)
    assert capsys.readouterr().err == ""
    few = msgspec.structs.replace(manifest.calibration, n=98)
    tell_notes(msgspec.structs.replace(manifest, calibration=few), manifest.version + 1)
    said = capsys.readouterr().err
    assert "note: Nothing is ever flagged: the scores are calibrated on 98 rows" in said
    assert f"note: version {manifest.version + 1} stays champion" in said
    jackknife = msgspec.structs.replace(few, drift_rows=200)
    tell_notes(msgspec.structs.replace(manifest, calibration=jackknife), manifest.version + 1)
    assert "note: Nothing but drift is ever flagged" in capsys.readouterr().err


def test_if_empty_knows_the_model_of_a_path(tmp_path: Path) -> None:
    registry = tmp_path / "state" / "registry"
    bundles.publish(registry, "people")
    source = tmp_path / "people.csv"
    samples.write_csv(source, samples.people(60))
    settings = Settings(state=str(tmp_path / "state"))
    done = CliRunner().invoke(train, [str(source), "--if-empty"], obj=settings, **CONTEXT)
    assert done.exit_code == 0, done.output
    assert "model people has a champion already" in done.stderr
    assert Registry(registry).versions("people") == (1,)
