"""Laws of the page: sound HTML that fetches nothing, escapes everything and shows the figures."""

import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.reporting import card, render
from models.reporting.detectors import at_rate
from models.reporting.drawing.svg import fit, ticks, width_of
from models.reporting.numbers import interval, percent
from models.versions.facts import DataFacts, EventFacts
from models.versions.figures import ChangedPicture, Evaluation, Scores
from tests.models.report_example import (
    PIXEL,
    example,
    figures_for,
    plain_example,
    read,
    share,
    table_example,
)

VOID = {"meta", "img", "br", "hr", "link", "input"}
EVIL = "<script>alert('&')</script>\"onload="


class _Reader(HTMLParser):
    """Follows the tags, and gathers text and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def parse(page: str) -> _Reader:
    """The page, parsed; every tag is closed in its place."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def is_sound(page: str) -> _Reader:
    """Assert that the page is well formed, self-contained, without script, and accessible."""
    reader = parse(page)
    ids = [a["id"] for _, a in reader.seen if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attributes in reader.seen:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
        for ident in (attributes.get("aria-labelledby") or "").split():
            assert ident in ids
        if tag == "img":
            assert attributes["alt"]
    assert not re.search(r"url\(|@import|https?://", page)
    for drawing in re.findall(r"<svg.*?</svg>", page, re.S):
        root = ElementTree.fromstring(drawing)
        named = root.find("title") is not None and root.find("desc") is not None
        assert named or root.get("aria-hidden") == "true"
        assert "nan" not in re.findall(r"[a-z]+", drawing.lower())
    return reader


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


@pytest.mark.parametrize("make", [example, table_example])
def test_page_is_sound(make: Any) -> None:
    manifest, figures = make()
    reader = is_sound(render(manifest, figures))
    headings = [tag for tag, _ in reader.seen if tag in ("h1", "h2", "h3")]
    assert headings.count("h1") == 1
    assert headings[0] == "h1"


def test_every_percentage_shown_is_one_of_thefigures_for() -> None:
    manifest, figures = example()
    words = " ".join(parse(render(manifest, figures)).words)
    numbers = [v for v in leaves(msgspec.to_builtins(figures)) if isinstance(v, float | int)]
    allowed = {percent(v) for v in [*numbers, manifest.calibration.alpha] if abs(v) <= 1}
    allowed |= {percent(at_rate(c.points, 0.01)) for c in figures.scores.roc}
    shown = set(re.findall(r"\d+\.\d%", words))
    assert len(shown) > 50
    assert shown <= allowed


def test_every_share_stands_in_the_page_with_interval_and_n() -> None:
    manifest, figures = example()
    words = " ".join(parse(render(manifest, figures)).words)
    shares = [*figures.attacks, *figures.robust_curve, *figures.noise_curve, *figures.corruptions]
    shares += [*figures.classes.values(), *figures.classes_robust.values()]
    shares += [*figures.previous.robust_curve, *figures.certified.points]
    shares += [figures.scores.perturbation_detected, figures.previous.corruptions[0]]
    for p in shares:
        assert interval(p) in words
    for case in figures.edge_cases:
        assert percent(case.confidence) in words


def test_previous_champion_stands_beside() -> None:
    manifest, figures = example()
    page = render(manifest, figures)
    assert "previous (version 2), pgd-20" in page
    assert "vs v2" in page
    alone = render(manifest, msgspec.structs.replace(figures, previous=None, mce=None))
    assert "version 2)" not in alone
    without = msgspec.structs.replace(figures, previous=None)
    given = render(manifest, without, figures.previous)
    assert given == page


def test_words_of_users_are_escaped_wherever_they_stand() -> None:
    manifest, figures = plain_example()
    names = tuple(EVIL + str(k) for k in range(10))
    figures = figures | figures_for(names)
    figures["gallery"][0] |= {"true": EVIL, "predicted": EVIL}
    for key in ("attacks", "robust_curve", "masking", "corruptions", "edge_cases"):
        for item in figures[key]:
            for name in ("name", "attack", "group", "detail"):
                if name in item:
                    item[name] = EVIL
    bad = msgspec.structs.replace(
        manifest,
        model=EVIL,
        classes=names,
        created_at=EVIL,
        event=EventFacts(reason=EVIL),
        training=msgspec.structs.replace(
            manifest.training, recipe={EVIL: EVIL}, data=DataFacts(EVIL, EVIL, {"path": EVIL})
        ),
    )
    page = render(bad, read(figures))
    is_sound(page)
    assert page.count("&lt;script&gt;") > 30
    assert EVIL in " ".join(parse(page).words)


@pytest.mark.parametrize(
    "picture",
    ["javascript:alert(1)", "data:image/svg+xml;base64,AAAA", "https://x/y.png", PIXEL + '"', ""],
)
def test_gallery_shows_nothing_but_png_data(picture: str) -> None:
    manifest, figures = example()
    bad: ChangedPicture = msgspec.structs.replace(figures.gallery[0], changed=picture)
    reader = is_sound(render(manifest, msgspec.structs.replace(figures, gallery=(bad,))))
    assert not [tag for tag, _ in reader.seen if tag == "img"]


def test_a_curve_against_other_attacks_is_marked_as_such() -> None:
    manifest, figures = plain_example()
    assert "compare the lines with care" not in render(manifest, read(figures))
    for point in figures["previous"]["robust_curve"]:
        point["attack"] = "fgsm"
    assert "compare the lines with care" in render(manifest, read(figures))


def test_small_pictures_are_pixelated() -> None:
    manifest, figures = example()
    assert 'class="gallery full pixelated"' in render(manifest, figures)
    schema = msgspec.structs.replace(manifest.input, shape=(3, 224, 224))
    large = render(msgspec.structs.replace(manifest, input=schema), figures)
    assert 'class="gallery full pixelated"' not in large


def test_two_hundred_classes_with_long_names_stay_small_and_sound() -> None:
    manifest, _ = example()
    names = tuple(
        f"Nova Scotia duck tolling retriever, also known as toller {k}" for k in range(200)
    )
    many = figures_for(names)
    big = msgspec.structs.replace(manifest, classes=names)
    page = render(big, read(many | {"gallery": []}))
    is_sound(page)
    assert len(page.encode()) < 400_000
    assert "The 8 weakest of 200 classes" in page


OPTIONAL = [
    field.name
    for field in msgspec.structs.fields(Evaluation)
    if field.default is not msgspec.NODEFAULT or field.default_factory is not msgspec.NODEFAULT
]


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.sampled_from(OPTIONAL), min_size=1, max_size=8),
    st.lists(st.sampled_from([f.name for f in msgspec.structs.fields(Scores)]), max_size=4),
    st.sampled_from([example, table_example]),
)
def test_missing_or_empty_figures_leave_a_sound_page(
    names: list[str], of_scores: list[str], make: Any
) -> None:
    manifest, figures = make()
    empty = read({})
    scores = figures.scores
    for name in of_scores:
        scores = msgspec.structs.replace(scores, **{name: getattr(Scores(), name)})
    figures = msgspec.structs.replace(
        figures, scores=scores, **{name: getattr(empty, name) for name in names if name != "scores"}
    )
    if "scores" in names:
        figures = msgspec.structs.replace(figures, scores=None)
    is_sound(render(manifest, figures))
    assert card(msgspec.structs.replace(manifest, evaluation=figures))


def test_figures_that_are_not_there_leave_a_page_that_says_so() -> None:
    manifest, _ = example()
    no_rows = {"robust": share(0.0, 0) | {"attack": "pgd", "eps": 0.1}}
    no_rows |= {"classes": {"0": share(0.0, 0)}}
    page = render(msgspec.structs.replace(manifest, training=None, event=None), read(no_rows))
    is_sound(page)
    assert "Not evaluated yet" in page
    assert "Not known: there are no figures." in page


def test_colours_of_text_have_contrast_in_both_themes() -> None:
    sheet = (Path(__file__).parents[3] / "models/reporting/style.css.j2").read_text()
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in _themes(sheet))
    for theme in (light, dark):
        for name in ("ink", "soft", "k0", "k1", "pass", "fail"):
            assert contrast(theme[name], theme["paper"]) >= 4.5, name
        for name in ("k2", "k3", "k4", "before", "noise"):
            assert contrast(theme[name], theme["paper"]) >= 3, name
        assert contrast(theme["ink"], theme["heat"]) >= 4.5
    assert light.keys() == dark.keys()


def _themes(sheet: str) -> list[str]:
    return re.findall(r":root \{\s*(?:color-scheme[^;]*;)?\s*(--paper.*?)\}", sheet, re.S)


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2, 1.4.3."""
    a, b = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (a + 0.05) / (b + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.integers(2, 12))
def test_ticks_are_inside_few_and_even(low: float, span: float, most: int) -> None:
    found = ticks(low, low + span, most)
    assert 0 < len(found) + 1 <= most + 1
    assert all(low - 1e-6 <= v <= low + span + 1e-6 for v in found)
    gaps = np.diff(found)
    assert len(gaps) == 0 or math.isclose(gaps.min(), gaps.max(), rel_tol=1e-6)


@given(st.text(max_size=60), st.floats(10, 300))
def test_text_that_was_cut_fits(content: str, width: float) -> None:
    cut = fit(content, width)
    assert cut == content or width_of(cut) <= width or cut == "…"
