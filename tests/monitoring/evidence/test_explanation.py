"""Laws of an explanation's words: a cell names its class, a histogram adds the classes up."""

import numpy as np
import pytest

from models.versions.schema import CellGroup, ChannelInfo
from monitoring.evidence.explanation import cell_labels, histogram


def channel(kind: str, labels: tuple[str, ...]) -> ChannelInfo:
    """A column of two classes."""
    groups = (CellGroup("cat", len(labels)), CellGroup("dog", len(labels)))
    return ChannelInfo("column:c", kind, labels * 2, groups)  # type: ignore[arg-type]


BEFORE, AFTER = np.array([0.3, 0.2, 0.0, 0.4, 0.1, 0.0]), np.array([0.1, 0.2, 0.2, 0.2, 0.2, 0.1])


def test_categories_of_all_classes_are_added_up() -> None:
    info = channel("category", ("red", "blue", "unseen"))
    told = histogram(info, None, BEFORE, AFTER)
    assert [b.label for b in told] == ["red", "blue", "unseen"]
    assert [b.before for b in told] == pytest.approx([0.7, 0.3, 0])
    assert [b.after for b in told] == pytest.approx([0.3, 0.4, 0.3])
    assert cell_labels(info, None, BEFORE)[2::2] == ["cat: unseen", "dog: blue"]


def test_missing_numbers_of_all_classes_are_added_up() -> None:
    info = channel("score", ("00", "01", "missing"))
    told = histogram(info, None, BEFORE, AFTER)
    assert (told[0].label, told[0].before) == ("missing", 0)
    assert told[0].after == pytest.approx(0.3)
    assert sum(b.after for b in told) == pytest.approx(1)
    assert cell_labels(info, None, BEFORE)[5] == "dog: missing"
