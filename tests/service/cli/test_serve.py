"""What `holdfast up` tells people to try is what the served models take."""

from pathlib import Path

from click.testing import CliRunner

from models.versions.registry import Registry
from service.cli import CONTEXT, CommandGroup
from service.cli.serve import _has_champion, _need_champion, examples, up
from service.configuration.settings import load
from tests import bundles
from tests.ops import free_port


def test_examples_fit_the_served_model_and_name_it_unless_it_is_the_demo(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    assert examples(registry, "holdfast") == ""
    bundles.publish(tmp_path, "ledger", name="asked", promote=False)
    assert examples(registry, "holdfast") == ""  # a challenger alone is not served
    bundles.publish(tmp_path, "churn", name="asked")
    assert "traffic --model churn --seconds 30" in examples(registry, "holdfast")
    assert "--shift unit" in examples(registry, "holdfast")
    version = bundles.publish(tmp_path, "digits")
    told = examples(registry, "holdfast")
    assert "  holdfast traffic --seconds 180 --labels --shift rotate:25\n" in told
    assert "churn" not in told
    (registry.path("digits", version) / "manifest.json").write_text("{")
    assert "--model churn" in examples(registry, "holdfast")


def test_a_model_that_cannot_be_read_is_not_trained_anew(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    assert not _has_champion(registry)
    bundles.publish(tmp_path, "churn", name="asked", promote=False)
    assert not _has_champion(registry)
    registry.promote("churn", 1, expected=None, actor="test", reason="test")
    assert _has_champion(registry)
    (tmp_path / "churn" / "aliases.json").write_text("{")
    assert _has_champion(registry)


def test_up_says_which_version_could_be_served_where_none_is_the_champion(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    for _ in range(2):
        bundles.publish(registry.root, "churn", name="asked", promote=False)
    settings = load(
        {
            "HOLDFAST_STATE": str(tmp_path),
            "HOLDFAST_PORT": str(free_port()),
            "HOLDFAST_WATCH_PORT": str(free_port()),
        }
    )
    group = CommandGroup("holdfast", commands={"up": up}, context_settings=CONTEXT)
    done = CliRunner().invoke(group, ["up"], obj=settings)
    assert done.exit_code == 1
    assert "no model has a champion" in done.stderr
    assert "`holdfast models promote churn 2` makes a version the champion" in done.stderr
    assert registry.versions("churn") == (1, 2), "nothing was trained"
    registry.promote("churn", 1, expected=None, actor="test", reason="test")
    _need_champion(registry)


def test_up_trains_where_there_is_nothing_at_all(tmp_path: Path) -> None:
    _need_champion(Registry(tmp_path))
