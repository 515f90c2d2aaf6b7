"""What `holdfast up` tells people to try is what the served models take."""

from pathlib import Path

from models.versions.registry import Registry
from service.cli.serve import _has_champion, examples
from tests import bundles


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
    bundles.publish(tmp_path, "churn", name="asked", promote=False)
    assert not _has_champion(registry, "churn")
    registry.promote("churn", 1, expected=None, actor="test", reason="test")
    assert _has_champion(registry, "churn")
    (tmp_path / "churn" / "aliases.json").write_text("{")
    assert _has_champion(registry, "churn")
