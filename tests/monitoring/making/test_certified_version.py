"""A version that certifies its answers, published and trained again by the loop's recipe."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from models import data as sets
from models.evaluation.gates.comparison import certified
from models.nets import factories
from models.training.presets import preset
from models.versions.facts import EventFacts
from models.versions.registry import Registry
from models.versions.runner import Runner
from monitoring.making.orders import Order
from monitoring.making.version import make_version


@pytest.mark.slow
def test_a_certified_version_is_published_whole_and_stays_certified(tmp_path: Path) -> None:
    data, registry = sets.load(sets.Source("breast_cancer")), Registry(tmp_path)
    chosen = preset(data.schema, len(data.train), method="certified")
    recipe = msgspec.structs.replace(chosen.recipe, epochs=40)
    spec = factories.spec_for(data.schema, len(data.classes))
    first = Order("m", recipe, spec, EventFacts("e-1", "test"), "test", threat=chosen.threat)
    bundle = registry.open("m", str(make_version(registry, data, first)))
    manifest = bundle.manifest
    assert manifest.certificate is not None
    assert manifest.certificate.eps == chosen.threat.eps
    assert manifest.sets is not None
    assert manifest.evaluation is not None
    proven = manifest.evaluation.proven
    assert proven is not None
    before = certified(Runner(bundle), data, chosen.threat.eps)
    assert proven.served.value == pytest.approx(before.mean(), abs=1e-3)
    assert "right and certified" in bundle.read("card.md").decode()
    assert "Prediction sets" in bundle.read("report.html").decode()

    again = msgspec.structs.replace(recipe, epochs=5, eps_warm_up=0.0, seed=1, corrupted_copies=1)
    second = Order(
        "m", again, spec, EventFacts("e-2", "test"), "test", parent=bundle, threat=chosen.threat
    )
    after = certified(
        Runner(registry.open("m", str(make_version(registry, data, second)))),
        data, chosen.threat.eps,
    )  # fmt: skip
    assert np.mean(after) > np.mean(before) - 0.06
