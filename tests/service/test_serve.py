"""What `holdfast up` tells people to try is what the served models take."""

from pathlib import Path

from models.registry import Registry
from service.cli.serve import examples
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
