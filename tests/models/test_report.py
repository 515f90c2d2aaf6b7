"""Laws of the card: every figure comes from the manifest, and nothing is left unsaid."""

import msgspec
import pytest

from models.report import card
from tests.conftest import Published


def test_card_in_the_bundle_says_what_the_manifest_says(published: Published) -> None:
    manifest = published.bundle.manifest
    text = published.bundle.read("card.md").decode()
    assert text == card(manifest)
    figures = manifest.evaluation
    for proportion in (figures["clean"], figures["robust"]):
        low, high = f"{proportion['low']:.1%}", f"{proportion['high']:.1%}"
        assert f"| {proportion['value']:.1%} ({low} to {high}, n = {proportion['n']}) |" in text
    for point in figures["robust_curve"]:
        assert f"| {point['attack']} | {point['eps']:g} | {point['value']:.1%} (" in text
    assert manifest.training["data"]["fingerprint"][:16] in text
    assert f"Scores calibrated on {manifest.calibration.n} rows" in text
    assert "because: the tests. Parent version: none." in text


def test_report_in_the_bundle_is_the_evaluation(published: Published) -> None:
    assert (
        msgspec.json.decode(published.bundle.read("report.json"))
        == published.bundle.manifest.evaluation
    )


@pytest.mark.parametrize("window", [None, {"value": 0.875, "low": 0.5, "high": 0.975, "n": 40}])
def test_card_follows_every_change_of_the_manifest(published: Published, window: object) -> None:
    manifest = published.bundle.manifest
    evaluation = manifest.evaluation | {"window": window, "n": 4711}
    changed = msgspec.structs.replace(
        manifest, version=12, parent=11, event={"reason": "energy higher"}, evaluation=evaluation
    )
    text = card(changed)
    assert text.startswith("# digits, version 12\n")
    assert "because: energy higher. Parent version: 11." in text
    assert "## Figures on 4711 held-out rows" in text
    assert ("87.5% (50.0% to 97.5%, n = 40)" in text) is (window is not None)
    assert "{" not in text, "a field that was not filled in"
