"""Laws of assembling: windows do not leak, versions come once, fine-tuning learns the window."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import corruptions
from models.data import PARTS, DataSet, Rows
from models.evaluate import right
from models.registry import Aliases, Registry
from models.runner import Runner
from models.stats import paired_difference
from models.train import Recipe
from monitoring import assemble
from monitoring.assemble import Order, Window, make_version
from tests.conftest import NET, Published


def keys(rows: Rows) -> set[bytes]:
    """The inputs as bytes."""
    return {row.tobytes() for row in rows.x}


def sides(window: Window) -> tuple[Rows, Rows, Rows]:
    """Its three parts."""
    return window.train, window.calibration, window.test


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9), st.booleans()), max_size=80),
)
def test_window_holds_each_foreign_input_once_with_its_last_label(
    digits: DataSet, sent: list[tuple[int, int, bool]]
) -> None:
    # Inputs are k-th constants, or (own) rows of the data set's three parts.
    own = np.concatenate([getattr(digits, part).x[:11] for part in PARTS])
    x = np.array([own[k] if mine else np.full((1, 8, 8), k / 2) for k, _, mine in sent], np.float32)
    rows = Rows(x.reshape(-1, 1, 8, 8), np.array([label for _, label, _ in sent], dtype=np.int64))
    window = Window.of(rows, digits)
    last = {k: label for k, label, mine in sent if not mine}
    found = {
        round(float(row[0, 0, 0]) * 2): int(label)
        for part in sides(window)
        for row, label in zip(part.x, part.y, strict=True)
    }
    assert found == last
    assert sum(map(len, sides(window))) == len(last), "no input stands on two sides"


def rotated(digits: DataSet, *, degrees: float = 35.0) -> Rows:
    """Held-out digits as a turned camera would send them."""
    rows = digits.calibration.joined(digits.test)
    unit = corruptions.rotated(digits.schema.to_unit(rows.x), degrees)
    return Rows(digits.schema.from_unit(unit), rows.y)


def test_window_is_split_by_the_input_alone(digits: DataSet) -> None:
    rows = rotated(digits)
    order = np.random.default_rng(0).permutation(len(rows))
    one, other = Window.of(rows, digits), Window.of(rows.take(order), digits)
    for part, again in zip(sides(one), sides(other), strict=True):
        assert keys(part) == keys(again)
    more = rows.joined(rotated(digits, degrees=20.0))
    for part, larger in zip(sides(one), sides(Window.of(more, digits)), strict=True):
        assert keys(part) <= keys(larger), "a later, longer window moves no row to another side"
    sizes = np.array([len(part) for part in sides(one)]) / len(rows)
    np.testing.assert_allclose(sizes, [0.5, 0.25, 0.25], atol=0.05)


def test_window_of_nothing_or_of_own_rows_is_empty(digits: DataSet) -> None:
    for rows in (digits.test, digits.train, digits.calibration, digits.test.take(np.arange(0))):
        assert [len(part) for part in sides(Window.of(rows, digits))] == [0, 0, 0]


def few(digits: DataSet) -> DataSet:
    """Few rows: quicker to train, fit and evaluate."""
    parts = (digits.train, digits.calibration, digits.test)
    counts = (300, 150, 40)
    kept = (rows.take(np.arange(n)) for rows, n in zip(parts, counts, strict=True))
    return DataSet(digits.name, digits.schema, digits.classes, *kept)


@pytest.fixture(scope="module")
def retrained(
    published: Published, digits: DataSet, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Registry, Order]:
    """A registry with a version fine-tuned on a rotated window, made by one order."""
    registry = Registry(tmp_path_factory.mktemp("retrained"))
    order = Order(
        "digits",
        Recipe(epochs=8, eps=0.1, eps_warm_up=0.0, attack_steps=4, seed=1),
        NET,
        {"id": "job-1", "reason": "gradient lower", "kind": "retrain"},
        "tests",
        parent=published.bundle,
        window=Window.of(rotated(digits), digits),
    )
    make_version(registry, few(digits), order)
    return registry, order


def test_fine_tuning_improves_the_held_out_part_of_the_window(
    published: Published, retrained: tuple[Registry, Order]
) -> None:
    registry, order = retrained
    assert order.window is not None
    held = order.window.test
    before, after = right(published.runner, held), right(Runner(registry.open("digits", "1")), held)
    difference, low = paired_difference(before, after)
    assert low > 0
    assert difference > 0.1


def test_manifest_says_where_the_version_comes_from(
    published: Published, retrained: tuple[Registry, Order], digits: DataSet
) -> None:
    registry, order = retrained
    assert order.window is not None
    manifest = registry.manifest("digits", 1)
    assert manifest.parent == published.bundle.manifest.version
    assert manifest.event == order.event
    assert manifest.training["seed"] == 1
    assert msgspec.convert(manifest.training["recipe"], Recipe) == order.recipe
    assert manifest.training["data"]["fingerprint"] == few(digits).fingerprint
    assert manifest.training["window_rows"] == len(order.window.train)
    held = len(few(digits).calibration) + len(order.window.calibration)
    assert manifest.calibration.n == held
    assert "which the stream is compared with" in manifest.calibration.source
    stream = registry.open("digits", "1").reference["class/alpha"]
    assert stream.sum() == pytest.approx(len(order.window.calibration) + 1)
    assert registry.aliases("digits") == Aliases(challenger=1)


def test_rebuilt_net_is_the_served_one(retrained: tuple[Registry, Order], digits: DataSet) -> None:
    import torch

    bundle = retrained[0].open("digits", "1")
    x = digits.test.x[:40]
    with torch.no_grad():
        logits = assemble.rebuild(bundle)(torch.from_numpy(digits.schema.to_unit(x)))[0]
    told = Runner(bundle).run(x).probabilities
    np.testing.assert_allclose(told, logits.softmax(dim=1).numpy(), atol=1e-5)


def test_same_event_makes_one_version_and_the_same_order_the_same_weights(
    retrained: tuple[Registry, Order], digits: DataSet
) -> None:
    registry, order = retrained
    quick = msgspec.structs.replace(order.recipe, max_steps=3)
    small = few(digits)
    again = Order("digits", quick, NET, order.event, "tests")
    assert make_version(registry, small, again) == 1
    assert registry.versions("digits") == (1,)
    assert len(registry.audit("digits")) == 1
    assert registry.manifest("digits", 1).training["recipe"]["max_steps"] is None, "the first stays"


def test_order_alone_decides_the_version(
    digits: DataSet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    small = few(digits)
    graphs = []
    for name in ("one", "two"):
        registry = Registry(tmp_path_factory.mktemp(name))
        order = Order(
            "digits", Recipe(max_steps=20, attack_steps=2), NET, {"id": "a", "reason": "b"}, "t"
        )
        make_version(registry, small, order)
        bundle = registry.open("digits", "1")
        graphs.append(
            (bundle.read("weights.safetensors"), bundle.reference["energy/edges"].tobytes())
        )
    assert graphs[0] == graphs[1]


def test_shuffled_labels_make_a_version_that_knows_nothing(digits: DataSet) -> None:
    order = Order("digits", Recipe(), NET, {"id": "a", "reason": "b"}, "t", shuffle_labels=True)
    rows = assemble._training_rows(digits, order)
    np.testing.assert_array_equal(rows.x, digits.train.x)
    assert 0.05 < np.mean(rows.y == digits.train.y) < 0.15
    np.testing.assert_array_equal(np.bincount(rows.y), np.bincount(digits.train.y))
