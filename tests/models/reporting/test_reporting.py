"""Laws of the card: every figure comes from the manifest, and nothing is left unsaid."""

import msgspec
import pytest

from models.reporting import card, render
from models.reporting.numbers import interval
from models.statistics.shares import Proportion
from models.versions.facts import EventFacts
from models.versions.figures import Evaluation
from models.versions.schema import Manifest
from tests.conftest import Published
from tests.models.report_example import example, read, table_example
from tests.models.reporting.test_page import is_sound


def test_card_in_the_bundle_says_what_the_manifest_says(published: Published) -> None:
    manifest = published.bundle.manifest
    text = published.bundle.read("card.md").decode()
    assert text == card(manifest)
    figures = manifest.evaluation
    for p in (figures.clean, figures.robust):
        assert f"| {p.value:.1%} ({p.low:.1%} to {p.high:.1%}, n = {p.n}) |" in text
    for point in figures.robust_curve:
        assert f"| {point.attack} | {point.eps:g} | {point.value:.1%} (" in text
    assert manifest.training.data.fingerprint[:16] in text
    assert f"Scores calibrated on {manifest.calibration.n} rows" in text
    assert "because: the tests. Parent version: none." in text


def test_page_of_a_real_version_is_sound_and_says_what_the_manifest_says(
    published: Published,
) -> None:
    manifest = published.bundle.manifest
    page = render(manifest, manifest.evaluation)
    is_sound(page)
    for share in (manifest.evaluation.clean, manifest.evaluation.robust):
        assert f"{share.value:.1%}" in page
    assert manifest.training.data.fingerprint[:16] in page


@pytest.mark.parametrize("window", [None, Proportion(0.875, 0.5, 0.975, 40)])
def test_card_follows_every_change_of_the_manifest(window: Proportion | None) -> None:
    manifest, figures = example()
    changed = msgspec.structs.replace(
        manifest,
        version=12,
        parent=11,
        event=EventFacts(reason="energy higher"),
        evaluation=msgspec.structs.replace(figures, window=window, n=4711),
    )
    text = card(changed)
    assert text.startswith("# digits, version 12\n")
    assert "because: energy higher. Parent version: 11." in text
    assert "## Figures on 4711 held-out rows" in text
    assert ("87.5% (50.0% to 97.5%, n = 40)" in text) is (window is not None)
    assert "{" not in text, "a field that was not filled in"


def test_card_shows_how_often_clean_rows_of_every_class_are_strange() -> None:
    plain, figures = example()
    manifest = msgspec.structs.replace(plain, evaluation=figures)
    lines = [line for line in card(manifest).splitlines() if "drift p <= .1" in line]
    assert lines == ["| clean rows predicted as | flagged as drift (1%) | drift p <= .1 |"]
    body = card(manifest).partition(lines[0])[2].splitlines()[2:4]
    assert [row.split("|")[1].strip() for row in body] == ["8", "3"], "the most strange first"
    assert "20.0% (" in body[0]
    assert ", n = 40)" in body[0]


def test_card_has_the_new_figures_of_a_full_evaluation() -> None:
    text = _card(*example())
    figures = example()[1]
    for share in (*figures.attacks, *figures.noise_curve, figures.calibration.ece):
        assert interval(share) in text
    assert "| calibration error (ECE) |" in text
    assert "| mean corruption error, previous champion = 1 | 0.93 (0.88 to 0.99, n = 368) |" in text
    assert "| check: white box not weaker than black box | **not passed**." in text
    assert "## In brief" in text
    assert "certified, L2 radius" in text
    assert "better than the previous champion (version 2)" in text


def test_card_of_a_table_names_its_columns_and_their_errors() -> None:
    text = _card(*table_example())
    assert "3 columns: age, income, sex" in text
    assert "| error in the input | severity | accuracy | flagged as drift |" in text
    assert "eps (share of a column's range)" in text


def test_card_of_an_evaluation_with_few_figures_is_made() -> None:
    manifest, figures = example()
    bare = read({"clean": msgspec.to_builtins(figures.clean)})
    few = msgspec.structs.replace(bare, robust=figures.robust, scores=figures.scores)
    assert "| clean accuracy | 91.6% (" in _card(manifest, few)
    assert "The version was not attacked" in _card(manifest, bare)


def test_words_of_users_cannot_leave_their_place_in_the_card() -> None:
    manifest, figures = example()
    names = ("<img src=x onerror=alert(1)>", "a | b", "new\n# heading")
    bad = msgspec.structs.replace(manifest, classes=names, event=EventFacts(reason="<script>\n# x"))
    text = _card(bad, figures)
    assert "<img" not in text
    assert "<script" not in text
    assert "\n# heading" not in text
    assert "a \\| b" in text


def _card(manifest: Manifest, figures: Evaluation) -> str:
    return card(msgspec.structs.replace(manifest, evaluation=figures))
