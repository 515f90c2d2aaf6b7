"""Every gate lets the good pass and stops the bad; masked gradients do not look like robustness."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.data import DataSet, Rows
from models.evaluation.adversarial import curve as curve_of
from models.evaluation.adversarial import noise_right, robust
from models.evaluation.gates import accuracy, catalogue
from models.evaluation.gates.checks import Bounds, Check, with_judged, words_of
from models.evaluation.gates.comparison import MASKING_EPS
from models.evaluation.subject import Subject
from models.nets import export, factories
from models.training.loop import Recipe, train
from models.versions.bundle import Bundle
from models.versions.runner import Runner
from models.versions.schema import Calibration
from tests.bundles import instrumented
from tests.conftest import NET, Published
from tests.models.versions.test_bundle import manifest

BOUNDS = Bounds()


def right(share: float, n: int = 400) -> np.ndarray:
    """The first rows right."""
    return np.arange(n) < round(share * n)


def judged(check: Check, name: str, passed: bool | None) -> None:
    """It has its name, a verdict of its own (None: unknown), and says something."""
    assert check.name == name
    assert check.verdict == {True: "pass", False: "fail", None: "unknown"}[passed], check.detail
    assert check.detail
    assert msgspec.json.decode(msgspec.json.encode(check), type=Check) == check


def test_input_contract_holds_for_the_same_and_breaks_for_any_change() -> None:
    champion = manifest()
    judged(catalogue.input_contract(champion, manifest(version=2)), "input_contract", True)
    schema = msgspec.structs.replace(champion.input, high=255.0)
    for changes in ({"input": schema}, {"classes": ("yes", "no")}, {"classes": ("no",)}):
        challenger = msgspec.structs.replace(champion, **changes)
        judged(catalogue.input_contract(champion, challenger), "input_contract", False)


def test_parity_gate_stops_at_its_bound() -> None:
    judged(catalogue.parity(1e-4, BOUNDS), "parity", True)
    judged(catalogue.parity(1.1e-4, BOUNDS), "parity", False)
    assert catalogue.parity(float("nan"), BOUNDS).verdict == "fail"


@pytest.mark.parametrize(
    ("gate", "name", "margin"),
    [
        (accuracy.clean_accuracy, "clean_accuracy", 0.03),
        (accuracy.robust_accuracy, "robust_accuracy", 0.06),
        (accuracy.certified_accuracy, "certified_accuracy", 0.06),
    ],
)
def test_accuracy_gates_allow_their_margin_and_no_more(gate, name: str, margin: float) -> None:
    before = right(0.9)
    judged(gate(before, right(0.9), BOUNDS), name, True)
    judged(gate(before, right(0.95), BOUNDS), name, True)
    judged(gate(before, right(0.9 - margin / 3), BOUNDS), name, True)
    judged(gate(before, right(0.9 - margin), BOUNDS), name, False)
    judged(gate(before, right(0.5), BOUNDS), name, False)
    judged(gate(before[:10], right(0.9, 10), BOUNDS), name, None)  # ten rows prove nothing
    judged(gate(right(1.0, 10), right(0.0, 10), BOUNDS), name, False)  # but a collapse shows


def test_a_challenger_that_certifies_nothing_fails_where_the_anchor_does() -> None:
    name = "certified_accuracy"
    judged(accuracy.certified_accuracy(right(0.7), None, BOUNDS), name, False)
    judged(accuracy.certified_accuracy(right(0.7, 10), None, BOUNDS), name, False)
    judged(accuracy.certified_accuracy(None, right(0.7), BOUNDS), name, True)
    judged(accuracy.certified_accuracy(None, None, BOUNDS), name, True)


def test_robust_floor_is_absolute() -> None:
    judged(accuracy.robust_floor(right(0.5), BOUNDS), "robust_floor", True)
    judged(accuracy.robust_floor(right(0.49), BOUNDS), "robust_floor", False)


def test_robust_floor_is_lower_where_the_champion_is() -> None:
    judged(accuracy.robust_floor(right(0.25), BOUNDS, champion=0.28), "robust_floor", True)
    judged(accuracy.robust_floor(right(0.2), BOUNDS, champion=0.28), "robust_floor", False)
    judged(accuracy.robust_floor(right(0.49), BOUNDS, champion=0.9), "robust_floor", False)


def test_window_gate_wants_proof_of_better() -> None:
    name, gate = "window_accuracy", accuracy.window_accuracy
    judged(gate(right(0.6, 80), right(0.9, 80)), name, True)
    judged(gate(right(0.6, 80), right(0.61, 80)), name, False)
    judged(gate(right(0.6, 80), right(0.6, 80)), name, False)
    judged(gate(right(0, 0), right(0, 0)), name, None)
    judged(gate(right(0.6, 9), right(0.6, 9)), name, None)


def test_false_positive_gate_stops_more_than_chance_explains() -> None:
    name = "drift_false_positives"
    judged(catalogue.false_positives("drift", right(0.01, 368), 0.01, 361), name, True)
    judged(catalogue.false_positives("drift", right(0.0, 368), 0.01, 361), name, True)
    judged(catalogue.false_positives("drift", right(0.06, 368), 0.01, 361), name, False)
    judged(catalogue.false_positives("drift", right(1.0, 368), 0.01, 361), name, False)


def test_gate_on_drift_knows_nothing_where_the_test_rows_were_calibrated_on() -> None:
    gate = next(gate for gate in catalogue.GATES if gate.name == "drift_false_positives")
    facts = Calibration(20, 0.01, 0.5, 0.5, "", 1.0, 0.03, 1, drift_rows=100)
    flags = (right(0.02, 100), right(0.0, 100))
    judge = cast(Any, gate.judge)
    judged(judge(SimpleNamespace(flags=flags, calibration=facts)), gate.name, True)
    whole = msgspec.structs.replace(facts, drift_tested=False)
    check = judge(SimpleNamespace(flags=flags, calibration=whole))
    assert (check.verdict, check.value) == ("unknown", None)
    assert "all 100 rows" in check.detail


def test_cost_gate_compares_with_the_champion() -> None:
    judged(catalogue.ratio("latency", 199, 100, 2.0, "us"), "latency", True)
    judged(catalogue.ratio("latency", 201, 100, 2.0, "us"), "latency", False)


def test_no_check_drops_out_and_none_comes_in() -> None:
    planned = catalogue.plan()
    assert [check.name for check in planned] == [gate.name for gate in catalogue.GATES]
    assert {check.verdict for check in planned} == {"unknown"}
    judged = with_judged(planned, [catalogue.parity(0, BOUNDS)])
    assert [check.name for check in judged] == [check.name for check in planned]
    assert [check.name for check in judged if check.verdict == "pass"] == ["parity"]
    with pytest.raises(AssertionError):
        with_judged(planned, [Check("another", "pass", None, None, "not planned")])


def test_a_person_decides_about_every_unknown_but_those_of_single_classes_and_of_the_shadow() -> (
    None
):
    waiting = {check.name for check in catalogue.undecided(catalogue.plan())}
    left_out = {gate.name for gate in catalogue.GATES} - waiting
    assert left_out == {"class_precision", "class_accuracy", "class_window", "shadow"}
    assert words_of([catalogue.parity(1, BOUNDS)], "fail").startswith("parity: largest")


@pytest.mark.parametrize(
    ("lost", "rows", "passed"),
    [(0, 36, True), (2, 36, True), (6, 36, False), (12, 100, False), (3, 25, None)],
)
def test_class_gate_sees_one_class_of_ten_get_worse(
    lost: int, rows: int, passed: bool | None
) -> None:
    y = np.repeat([0, 1], [400 if rows >= 30 else 0, rows])
    before = np.ones(len(y), dtype=bool)
    after = before.copy()
    after[len(y) - lost :] = False
    names = ("common", "rare")
    check = accuracy.class_accuracy("class_window", before, after, y, names)
    judged(check, "class_window", passed)
    assert passed is None or not lost or "rare" in check.detail


def test_class_gate_pools_what_is_rare() -> None:
    y = np.repeat(np.arange(10), 9)
    before, after = np.ones(90, dtype=bool), np.ones(90, dtype=bool)
    names = tuple("abcdefghij")
    judged(accuracy.class_accuracy("class_window", before, after, y, names),
           "class_window", True)  # fmt: skip
    after[:30] = False
    judged(accuracy.class_accuracy("class_window", before, after, y, names),
           "class_window", False)  # fmt: skip


def test_bounds_refuse_words_they_do_not_know() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"clean_margins": 1.0}, Bounds)


@pytest.mark.parametrize(
    ("accuracy", "noise", "passed"),
    [
        ((0.9, 0.7, 0.3, 0.05), 0.95, True),
        ((0.9, 0.9, 0.9, 0.9), 0.95, False),  # robust at every size
        ((0.9, 0.5, 0.6, 0.05), 0.95, False),  # a larger attack does less
        ((0.9, 0.7, 0.3, 0.05), 0.8, False),  # noise does more than the attack
        ((0.9, 0.7, 0.3, 0.25), 0.95, False),  # better than guessing where nothing is left to see
    ],
)
def test_masking_gate_reads_the_curve(
    accuracy: tuple[float, ...], noise: float, passed: bool
) -> None:
    judged(
        catalogue.gradient_masking(MASKING_EPS, accuracy, noise, 0.1), "gradient_masking", passed
    )


class Wrapped(nn.Module):
    """A net whose answers stay the same and whose gradients do not."""

    def __init__(self, net: nn.Module, way: str) -> None:
        super().__init__()
        self.net, self.way = net, way

    def forward(self, x_unit: Tensor) -> tuple[Tensor, Tensor]:
        """The net, behind something that starves a gradient."""
        if self.way == "quantised input":
            x_unit = torch.round(x_unit * 16) / 16
        logits, features = self.net(x_unit)
        if self.way == "scaled logits":
            logits = logits * 1e4
        if self.way == "rounded logits":
            logits = torch.round(logits * 4) / 4
        return logits, features


@pytest.fixture(scope="module")
def plain(digits: DataSet) -> nn.Module:
    """A net of standard training: accurate and not robust."""
    torch.manual_seed(0)
    recipe = Recipe(method="standard", epochs=8)
    return train(factories.build(NET), digits.train, digits.schema, recipe).net


def judge(net: nn.Module, digits: DataSet, rows: Rows) -> tuple[Check, Check]:
    """The masking gate and the robust floor, through a real graph."""
    made = instrumented(digits, export.to_onnx(net.eval(), digits.schema))
    facts = msgspec.structs.replace(
        manifest(),
        input=digits.schema,
        classes=digits.classes,
        channels=made.channels,
        calibration=made.calibration,
    )
    bundle = Bundle(Path("wrapped"), facts, made.reference, made.model.SerializeToString())
    return verdicts(Subject(Runner(bundle), net), rows)


def verdicts(subject: Subject, rows: Rows) -> tuple[Check, Check]:
    """The masking gate and the robust floor."""
    noise = float(noise_right(subject.runner, rows, MASKING_EPS[0]).mean())
    curve = curve_of(subject, rows, MASKING_EPS, steps=10)
    floor = accuracy.robust_floor(robust(subject, rows, 0.15, steps=10), BOUNDS)
    return catalogue.gradient_masking(MASKING_EPS, curve, noise, 0.1), floor


@pytest.mark.parametrize("way", ["quantised input", "rounded logits"])
def test_gradients_that_are_zero_do_not_pass_for_robustness(
    way: str, plain: nn.Module, digits: DataSet
) -> None:
    masked, floor = judge(Wrapped(plain, way), digits, digits.test.take(np.arange(150)))
    assert floor.verdict == "pass", "the attack must be fooled, or the test shows nothing"
    judged(masked, "gradient_masking", False)


def test_saturated_cross_entropy_hides_nothing_from_the_margin(
    plain: nn.Module, digits: DataSet
) -> None:
    rows = digits.test.take(np.arange(150))
    honest, _ = judge(plain, digits, rows)
    masked, floor = judge(Wrapped(plain, "scaled logits"), digits, rows)
    judged(honest, "gradient_masking", True)  # weak, and it does not pretend
    judged(masked, "gradient_masking", True)  # the attack sees through it ...
    judged(floor, "robust_floor", False)  # ... and so the net is refused for what it is


def test_robust_net_passes_the_masking_gate(published: Published, digits: DataSet) -> None:
    masked, floor = verdicts(published.subject, digits.test.take(np.arange(150)))
    judged(masked, "gradient_masking", True)
    judged(floor, "robust_floor", True)


class Broken:
    """A comparison of which one measurement fails."""

    def __init__(self, broken: str) -> None:
        self.broken = broken
        self.bounds = BOUNDS
        if broken != "manifests":
            self.manifests = manifest(), manifest()
        self.calibration = manifest().calibration
        self.window_margin = 0.0
        self.alpha = 0.05
        self.latency = self.size = catalogue.Cost(1.0, 1.0)

    def __getattr__(self, name: str) -> object:
        if name == self.broken:
            raise RuntimeError("no gradient")
        pair = right(0.9), right(0.9)
        return {
            "clean": pair,
            "clean_labels": np.zeros(400, dtype=np.int64),
            "clean_own": 300,
            "window_labels": np.zeros(400, dtype=np.int64),
            "triggers": Check("trigger_sweep", "pass", 0.0, 0.4, "none obeys"),
            "robust": pair,
            "certified": pair,
            "window": (right(0.6), right(0.9)),
            "flags": (right(0.0), right(0.0)),
            "difference": 0.0,
            "sweep": catalogue.SweepOfSizes((0.1, 0.5), (0.9, 0.0), 0.95, 0.1),
        }[name]


@pytest.mark.parametrize(
    ("broken", "failing"),
    [
        ("", []),
        ("clean", ["clean_accuracy", "class_accuracy"]),
        ("clean_own", ["clean_accuracy"]),
        ("clean_labels", ["class_accuracy"]),
        ("robust", ["robust_accuracy", "robust_floor"]),
        ("certified", ["certified_accuracy"]),
        ("sweep", ["gradient_masking"]),
        ("window", ["window_accuracy", "class_window"]),
        ("window_labels", ["class_window"]),
        ("triggers", ["trigger_sweep"]),
        ("flags", ["drift_false_positives", "perturbation_false_positives"]),
        ("difference", ["parity"]),
        ("manifests", ["input_contract", "class_accuracy", "class_window"]),
    ],
)
def test_a_gate_whose_figure_cannot_be_measured_is_unknown_by_name_and_the_contract_fails(
    broken: str, failing: list[str]
) -> None:
    checks = catalogue.judge_all(Broken(broken))  # type: ignore[arg-type]
    assert [c.name for c in checks] == [
        gate.name for gate in catalogue.GATES if gate.judge is not None
    ]
    assert [check.name for check in checks if check.verdict != "pass"] == failing
    assert {c.name for c in checks if c.verdict == "fail"} == set(failing) & {"input_contract"}
    for check in checks:
        if check.name in failing:
            assert check.detail == "not measured: RuntimeError: no gradient"
            assert (check.value, check.bound) == (None, None)


@pytest.mark.parametrize("page", ["architecture.md", "methods.md"])
def test_the_docs_list_the_gates_as_the_code_does(page: str) -> None:
    docs = Path(__file__).parents[4] / "docs"
    assert catalogue.gate_table() in (docs / page).read_text()
