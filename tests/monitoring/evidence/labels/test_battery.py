"""One battery over all evidence from labels: each is its small state, and that state is JSON."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from monitoring.evidence.labels import harm, labelling, thumbs_up

Step = Callable[[Any, np.random.Generator, float], Any]  # one piece of traffic, this often right


def more_harm(evidence: harm.HarmEvidence, rng: np.random.Generator, accuracy: float) -> Any:
    right = rng.random(50) < accuracy
    return harm.update(evidence, right, np.arange(50.0), floor=0.9, c=1e4)


def more_labelling(
    evidence: labelling.LabellingEvidence, rng: np.random.Generator, accuracy: float
) -> Any:
    confidence, predicted = rng.random(100), rng.integers(0, 3, 100)
    labelled = (confidence < 0.3) | (rng.random(100) < accuracy)
    return labelling.update(evidence, confidence, rng.random(100), predicted, labelled, classes=3)


def more_thumbs(
    evidence: thumbs_up.ThumbsUpEvidence, rng: np.random.Generator, accuracy: float
) -> Any:
    return thumbs_up.update(evidence, rng.random(50) < accuracy, rng.random(50))


DETECTORS: dict[str, tuple[type, Step]] = {
    "harm": (harm.HarmEvidence, more_harm),
    "labelling": (labelling.LabellingEvidence, more_labelling),
    "thumbs_up": (thumbs_up.ThumbsUpEvidence, more_thumbs),
}
battery = pytest.mark.parametrize("name", DETECTORS)


@battery
@pytest.mark.parametrize("accuracy", [0.0, 0.5, 0.95, 1.0])
def test_state_survives_json_at_any_moment_and_stays_finite(name: str, accuracy: float) -> None:
    kind, step = DETECTORS[name]
    kept, stored = kind(), kind()
    rng, again = np.random.default_rng(0), np.random.default_rng(0)
    for _ in range(80):
        kept = step(kept, rng, accuracy)
        text = msgspec.json.encode(stored)
        assert b"null" not in text.replace(b'"alarm":null', b"").replace(b'"choice":null', b"")
        stored = step(msgspec.json.decode(text, type=kind), again, accuracy)
        assert stored == kept
        assert np.isfinite(level(kept))
    assert len(msgspec.json.encode(kept)) < 20_000


@battery
def test_nothing_is_known_at_the_start_and_no_labels_change_nothing(name: str) -> None:
    kind, _ = DETECTORS[name]
    assert level(kind()) == 0
    empty = np.empty(0)
    if kind is harm.HarmEvidence:
        assert harm.update(kind(), empty.astype(bool), empty, floor=0.9) == kind()
    if kind is thumbs_up.ThumbsUpEvidence:
        assert thumbs_up.update(kind(), empty.astype(bool), empty) == kind()


@battery
def test_state_is_never_changed_in_place(name: str) -> None:
    kind, step = DETECTORS[name]
    before = step(kind(), np.random.default_rng(0), 0.4)
    text = msgspec.json.encode(before)
    step(before, np.random.default_rng(1), 0.4)
    assert msgspec.json.encode(before) == text


def level(evidence: Any) -> float:
    """The evidence as its property has it, log10."""
    value: float = evidence.log10_r if hasattr(evidence, "log10_r") else evidence.log10_m
    return value
