"""Laws of making a version: windows do not leak, versions come once, fine-tuning learns."""

import dataclasses
import errno
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from models import corruptions
from models.attacks.threat import geometry_of
from models.base.errors import DataError, RegistryError, TrainingError
from models.data import PARTS, DataSet, Rows, Source
from models.data.window import Window
from models.evaluation.adversarial import attack_subject
from models.evaluation.subject import answer, right
from models.nets import factories
from models.statistics.intervals import auroc, false_positive_interval, paired_difference
from models.training.loop import Recipe
from models.versions.facts import EventFacts, WrappingFacts
from models.versions.figures import Evaluation, summary
from models.versions.judging import ThreatModel
from models.versions.registry import Aliases, Registry
from models.versions.runner import Runner
from monitoring.making.opening import open_subject, rebuild
from monitoring.making.orders import Order, WrapOrder
from monitoring.making.rows import training_rows
from monitoring.making.version import make_version, wrap_version
from tests import bundles
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
        EventFacts("job-1", "gradient lower", "retrain"),
        "tests",
        parent=published.bundle,
        window=Window.of(rotated(digits), digits),
    )
    make_version(registry, bundles.few_rows(digits), order)
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
    assert manifest.training.seed == 1
    assert msgspec.convert(manifest.training.recipe, Recipe) == order.recipe
    assert manifest.training.data.fingerprint == bundles.few_rows(digits).fingerprint
    assert manifest.training.window_rows == len(order.window.train)
    held = len(bundles.few_rows(digits).calibration) + len(order.window.calibration)
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
        logits = rebuild(bundle)(torch.from_numpy(digits.schema.to_unit(x)))[0]
    told, heat = Runner(bundle).run(x).probabilities, bundle.manifest.calibration.temperature
    assert heat != 1
    np.testing.assert_allclose(told, (logits / heat).softmax(dim=1).numpy(), atol=1e-5)


def test_same_event_makes_one_version_and_the_same_order_the_same_weights(
    retrained: tuple[Registry, Order], digits: DataSet
) -> None:
    registry, order = retrained
    quick = msgspec.structs.replace(order.recipe, max_steps=3)
    small = bundles.few_rows(digits)
    again = Order("digits", quick, NET, order.event, "tests")
    assert make_version(registry, small, again) == 1
    assert registry.versions("digits") == (1,)
    assert len(registry.audit("digits")) == 1
    assert registry.manifest("digits", 1).training.recipe["max_steps"] is None, "the first stays"


@pytest.mark.slow  # of its parts, training and head have tests of their seeds that are not
def test_order_alone_decides_the_version(
    digits: DataSet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    small = bundles.few_rows(digits)
    graphs = []
    for name in ("one", "two"):
        registry = Registry(tmp_path_factory.mktemp(name))
        order = Order(
            "digits", Recipe(max_steps=20, attack_steps=2), NET, EventFacts("a", "b"), "t"
        )
        make_version(registry, small, order)
        bundle = registry.open("digits", "1")
        graphs.append(
            (bundle.read("weights.safetensors"), bundle.reference["energy/edges"].tobytes())
        )
    assert graphs[0] == graphs[1]


def test_shuffled_labels_make_a_version_that_knows_nothing(digits: DataSet) -> None:
    order = Order("digits", Recipe(), NET, EventFacts("a", "b"), "t", shuffle_labels=True)
    rows = training_rows(digits, order).rows
    np.testing.assert_array_equal(rows.x, digits.train.x)
    assert 0.05 < np.mean(rows.y == digits.train.y) < 0.15
    np.testing.assert_array_equal(np.bincount(rows.y), np.bincount(digits.train.y))


# Tables, and graphs that exist.


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A registry with `rows/1`, trained on a table, and `rows/2`, a wrapped graph."""
    registry, data = Registry(tmp_path_factory.mktemp("tables")), bundles.table()
    threat = ThreatModel(eps=0.05, columns={"n0": 0.0})
    order = Order(
        "rows",
        Recipe(method="trades", eps=0.05, beta=2.0, epochs=6, columns={"n0": 0.0}),
        factories.spec_for(data.schema, 3),
        EventFacts("train", "a table"),
        "tests",
        threat=threat,
    )
    make_version(registry, data, order)
    registry.promote("rows", 1, expected=None, actor="tests", reason="first")
    wrap = WrapOrder(
        "rows",
        EventFacts("wrap", "a graph"),
        "tests",
        threat,
        WrappingFacts("forest.onnx"),
    )
    wrap_version(registry, data, bundles.asked_only(data), wrap)
    return registry


@pytest.mark.parametrize("version", [1, 2])
def test_version_of_a_table_answers_raw_rows_and_is_judged(version: int, tables: Registry) -> None:
    data, bundle = bundles.table(), tables.open("rows", str(version))
    manifest = bundle.manifest
    figures = manifest.evaluation
    assert figures.clean.value > 0.7
    assert figures.robust.value <= figures.clean.value
    assert figures.threat == ThreatModel(eps=0.05, columns={"n0": 0.0})
    assert figures.black_box is (version == 2)
    assert {row.name for row in figures.stress} > {"missing", "noise", "unseen_category"}
    names = [c.name for c in manifest.channels]
    scores = [name for name in names if not name.startswith("column:")]
    assert scores[-5:] == ["inside", "row_distance", "chow_liu", "shuffled_row", "class"]
    assert len(names) - len(scores) == len(data.schema.columns)
    assert ("feature_distance" in names) is (version == 1)
    strange = data.test.x[:4].copy()
    strange[[0, 1, 2, 3], [8, 10, 0, 1]] = [np.nan, -1, 1e30, -1e30]
    data.schema.check(strange)
    told = Runner(bundle).run(strange)
    assert told.certified is told.certified_eps is manifest.certificate is None
    given = [output for output in told if output is not None]
    assert len(given) == len(told) - 2
    assert all(np.isfinite(output).all() for output in given)
    assert (told.drift_p_value[2:] <= 0.01).all()


def test_scores_of_a_table_flag_clean_rows_as_often_as_the_law_says(tables: Registry) -> None:
    x = bundles.table().test.x
    for version in ("1", "2"):
        runner = Runner(tables.open("rows", version))
        facts, told = runner.manifest.calibration, answer(runner, x)
        high = false_positive_interval(facts.alpha, facts.n, len(x))[1]
        assert (told.drift_p_value <= facts.alpha).sum() <= high
        assert (told.perturbation_likelihood > facts.perturbation_threshold).sum() <= high


@pytest.mark.parametrize(("version", "attack"), [("1", "apgd-ce"), ("2", "square")])
def test_attacked_rows_of_a_table_rank_above_clean_ones(
    version: str, attack: str, tables: Registry
) -> None:
    data = bundles.table()
    subject = open_subject(tables.open("rows", version))
    threat = geometry_of(ThreatModel(eps=0.1, columns={"n0": 0.0}), data.schema)
    some = data.test.take(np.arange(100))
    x = attack_subject(subject, some, threat, attack=attack, budget=60, seed=9)
    moved = np.abs(data.schema.to_unit(x) - data.schema.to_unit(some.x))
    assert moved[:, 0].max() < 1e-5, "n0 cannot be changed"
    clean, perturbed = (
        answer(subject.runner, rows).perturbation_likelihood for rows in (data.test.x, x)
    )
    assert auroc(clean, perturbed) > 0.8


def test_manifest_of_a_table_leads_back_to_its_data_and_the_champion_is_beside(
    tables: Registry,
) -> None:
    data = bundles.table()
    for version in (1, 2):
        facts = tables.manifest("rows", version).training.data
        assert facts.fingerprint == data.fingerprint
        assert msgspec.convert(facts.source, Source) == data.source
    first, second = (tables.manifest("rows", version) for version in (1, 2))
    assert first.evaluation.previous is None
    assert second.evaluation.previous.version == 1
    assert second.evaluation.previous.clean == first.evaluation.clean


def test_wrapped_version_has_no_weights_and_says_so(tables: Registry) -> None:
    bundle = tables.open("rows", "2")
    assert bundle.manifest.training.wrapped.file == "forest.onnx"
    assert "weights.safetensors" not in bundle.manifest.files
    assert open_subject(bundle).net is None
    with pytest.raises(TrainingError, match="rows/2 is a wrapped model"):
        rebuild(bundle)


def test_bundle_holds_the_report_for_people_and_for_machines(tables: Registry) -> None:
    for version in ("1", "2"):
        bundle = tables.open("rows", version)
        whole = msgspec.json.decode(bundle.read("report.json"), type=Evaluation)
        brief = bundle.manifest.evaluation
        assert brief == summary(whole)
        assert all(len(curve.points) > 1 for curve in whole.scores.roc)
        assert not any(curve.points for curve in brief.scores.roc)
        assert b"</html>" in bundle.read("report.html")
        assert b"rows, version" in bundle.read("card.md")


def test_graph_that_does_not_answer_is_refused_and_nothing_is_published(empty: Registry) -> None:
    data = bundles.table()
    order = WrapOrder(
        "rows", EventFacts("a", "b"), "t", ThreatModel(eps=0.1), WrappingFacts("a.onnx")
    )
    silent = bundles.asked_only(data)
    for initializer in silent.graph.initializer:
        if initializer.name == "b":
            nothing = np.full(3, np.nan, np.float32)
            initializer.CopyFrom(numpy_helper.from_array(nothing, "b"))
    with pytest.raises(TrainingError, match="no finite logits for row 0"):
        wrap_version(empty, data, silent, order)
    two = dataclasses.replace(data, classes=("a", "b"))
    with pytest.raises(TrainingError, match=r"logits of shape \[\d+, 3\].* has 2 classes"):
        wrap_version(empty, two, bundles.asked_only(data), order)
    assert empty.versions("rows") == ()


def test_threat_that_does_not_fit_is_refused_before_anything_is_trained(empty: Registry) -> None:
    data = bundles.table()
    for threat in (ThreatModel(eps=8.0), ThreatModel("l2", 0.1), ThreatModel(columns={"x": 1.0})):
        order = Order(
            "rows", Recipe(), factories.spec_for(data.schema, 3), EventFacts("a", "b"), "t",
            threat=threat,
        )  # fmt: skip
        with pytest.raises(DataError):
            make_version(empty, data, order)
    assert not empty.root.exists()


def test_full_disk_leaves_no_half_written_version(
    empty: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, written = bundles.table(), []

    def full(path: Path, content: bytes) -> None:
        written.append(path.name)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_bytes(content)

    monkeypatch.setattr("models.versions.bundle.write_durable", full)
    order = WrapOrder(
        "rows", EventFacts("a", "b"), "t", ThreatModel(eps=0.1), WrappingFacts("a.onnx")
    )
    few = dataclasses.replace(
        data, calibration=data.calibration.take(np.arange(60)), test=data.test.take(np.arange(30))
    )
    with pytest.raises(RegistryError, match="No space left on device; nothing was published"):
        wrap_version(empty, few, bundles.asked_only(data), order)
    assert len(written) == 3
    assert empty.versions("rows") == ()
    assert not list((empty.root / "rows").glob(".staging-*"))
    monkeypatch.undo()
    assert wrap_version(empty, few, bundles.asked_only(data), order) == 1


def test_too_few_rows_are_refused(empty: Registry) -> None:
    data = bundles.table()
    order = WrapOrder(
        "rows", EventFacts("a", "b"), "t", ThreatModel(eps=0.1), WrappingFacts("a.onnx")
    )
    for part, count in (("train", 12), ("calibration", 5)):
        few = dataclasses.replace(data, **{part: getattr(data, part).take(np.arange(count))})
        with pytest.raises(DataError, match=f"{count} {'training' if part == 'train' else part}"):
            wrap_version(empty, few, bundles.asked_only(data), order)
