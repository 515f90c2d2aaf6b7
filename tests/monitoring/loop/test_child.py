"""Laws of the heavy steps: they work for tables and wrapped graphs, and end with a sentence."""

import errno
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from models import data
from models.attacks.threat import geometry_of
from models.base.errors import HoldfastError, RegistryError
from models.data import DataSet, Rows
from models.data.lineage import LEFT_OUT, Lineage
from models.data.source import relabelled_data
from models.evaluation.gates.comparison import MASKING_EPS, masking_sizes
from models.evaluation.subject import right
from models.nets import factories
from models.training.loop import Recipe
from models.versions.facts import EventFacts, WrappingFacts
from models.versions.judging import ThreatModel
from models.versions.registry import Registry
from models.versions.runner import Runner
from models.versions.schema import InputSchema
from monitoring.loop import child
from monitoring.loop.jobs import Job, Task
from monitoring.loop.steps import PASSING_STATUS
from monitoring.loop.terms import Terms, frozen
from monitoring.loop.verdict_page import write_verdict
from monitoring.making.orders import Order, WrapOrder
from monitoring.making.version import make_version, wrap_version
from monitoring.records.store import Key, Record, RecordStore
from tests import bundles

THREAT = ThreatModel(eps=0.05)


@pytest.fixture(scope="module")
def cancer() -> DataSet:
    """A table that can be loaded again by its name."""
    return data.load("breast_cancer")


@pytest.fixture(scope="module")
def registry(cancer: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """`trained/1`, a net for a table, and `wrapped/1`, a graph that exists."""
    registry = Registry(tmp_path_factory.mktemp("registry"))
    event = EventFacts("first", "the tests")
    recipe = Recipe(eps=0.05, beta=2.0, epochs=10)
    order = Order(
        "trained", recipe, factories.spec_for(cancer.schema, 2), event, "tests", threat=THREAT
    )
    make_version(registry, cancer, order)
    wrap = WrapOrder("wrapped", event, "tests", THREAT, WrappingFacts("a.onnx"))
    wrap_version(registry, cancer, bundles.asked_only(cancer), wrap)
    for model in ("trained", "wrapped"):
        registry.promote(model, 1, expected=None, actor="tests", reason="first")
    return registry


def task_of(registry: Registry, folder: Path, model: str, **job: Any) -> Task:
    """A task about the champion of `model`, with a window of moved rows in the folder."""
    cancer = data.load("breast_cancer")
    rows, rng = cancer.test, np.random.default_rng(1)
    x = rows.x + 0.05 * cancer.schema.span * rng.normal(size=rows.x.shape)
    with (folder / "window.npz").open("wb") as stream:
        clients = np.array(["client"] * len(rows.y))
        np.savez(stream, x=x.astype(np.float32), y=rows.y, predicted=rows.y, clients=clients)
    facts = {"kind": "evaluate", "source": "test", "reason": "test"} | job
    made = Job(id="job-1", model=model, champion=1, since=0.0, created_at=0.0, **facts)
    return Task(made, str(registry.root), "sqlite://", retrain_epochs=4)


@pytest.mark.parametrize(("model", "attack"), [("trained", "pgd-40"), ("wrapped", "square")])
def test_champion_of_a_table_is_judged(
    model: str, attack: str, registry: Registry, tmp_path: Path
) -> None:
    told = child.evaluate(task_of(registry, tmp_path, model), tmp_path)
    card = registry.manifest(model, 1).evaluation
    assert told.verdict == "passed"
    assert told.clean == card.clean
    assert (told.robust.attack, told.robust.eps) == (attack, 0.05)
    assert told.robust.value <= told.clean.value
    assert msgspec.json.encode(told)


def test_swapped_labels_are_followed_and_the_version_remembers_them(
    registry: Registry, cancer: DataSet, tmp_path: Path
) -> None:
    task = task_of(registry, tmp_path, "trained", kind="retrain")
    with np.load(tmp_path / "window.npz") as archive:
        window = dict(archive)
    earlier = {"earlier/x": window["x"][:9] + 1, "earlier/y": window["y"][:9]}
    changed = {"y": 1 - window["y"], "earlier/at": np.zeros(9)}
    np.savez(tmp_path / "window.npz", **window | changed | earlier)
    said = child.referee(task, tmp_path)
    assert {(c.old, c.new) for c in said.changes} == {
        ("malignant", "benign"),
        ("benign", "malignant"),
    }, said
    assert said.can_follow
    assert not said.followed, "a person must say that it is meant"
    assert said.checks[0].verdict != "fail", said.checks[0].detail
    terms = frozen(Terms(trusted_labellers=("client",)))
    trusting = msgspec.structs.replace(task, job=msgspec.structs.replace(task.job, terms=terms))
    assert child.referee(trusting, tmp_path).followed
    facts = {"followed": "as asked", "changes": said.changes, "id": "job-2"}
    facts["options"] = {"recipe": {"epochs": 12}}
    followed = msgspec.structs.replace(task, job=msgspec.structs.replace(task.job, **facts))
    bundle = registry.open("trained", str(child.train(followed, tmp_path).version))
    assert [(f.old, f.new, f.by) for f in bundle.manifest.training.followed] == [
        (c.old, c.new, "as asked") for c in said.changes
    ]
    lineage, now = Lineage.of(bundle), relabelled_data(bundle)
    kept = lineage.labels["train"] != LEFT_OUT
    assert kept.mean() > 0.8
    assert (lineage.labels["train"][kept] == 1 - cancer.train.y[kept]).mean() > 0.95
    assert len(now.test) > 50, "both classes have changed: something must judge"
    turned = Rows(window["x"], 1 - window["y"])
    assert right(Runner(registry.open("trained", "1")), turned).mean() < 0.2
    assert right(Runner(bundle), turned).mean() > 0.7
    assert set(lineage.live) == {"train", "test"}


def test_champion_of_a_table_is_retrained_and_every_gate_is_a_record(
    registry: Registry, tmp_path: Path
) -> None:
    task = task_of(registry, tmp_path, "trained", kind="retrain")
    before = child.referee(task, tmp_path)
    assert [check.name for check in before.checks] == ["referee", "class_precision", "labels"]
    assert before.checks[0].verdict == "pass", before.checks[0].detail
    version = child.train(task, tmp_path).version
    manifest = registry.manifest("trained", version)
    assert manifest.parent == 1
    assert manifest.training.recipe["epochs"] == 4
    assert manifest.evaluation.threat.eps == 0.05
    assert not list(tmp_path.glob("checkpoint*")), "a run that ended leaves none"
    again = msgspec.structs.replace(task, job=msgspec.structs.replace(task.job, challenger=version))
    checks = child.gate(again, tmp_path).checks
    assert [check.name for check in checks] == [
        "input_contract", "clean_accuracy", "class_accuracy", "robust_accuracy", "robust_floor",
        "certified_accuracy", "gradient_masking", "window_accuracy", "class_window",
        "trigger_sweep", "drift_false_positives", "perturbation_false_positives",
        "parity", "latency", "size",
    ]  # fmt: skip
    judged = {check.name: check for check in checks}
    for name in ("input_contract", "robust_floor", "gradient_masking", "parity", "size"):
        assert judged[name].verdict == "pass", judged[name].detail
    anchor = registry.state("trained").anchor
    assert (anchor.version, anchor.attempts, anchor.event) == (1, 1, "job-1")
    assert judged["clean_accuracy"].alpha == anchor.alpha
    assert child._alpha(again) == anchor.alpha, "a step that runs again is no new attempt"


def test_clients_are_counted_in_what_is_shown_and_named_in_files_of_the_owner(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Addresses of three clients: one labels most rows, and half of its labels are wrong."""
    rows, addresses = data.load("breast_cancer").train, ("203.0.113.7", "10.0.0.5", "10.0.0.6")
    url, rng = f"sqlite:///{tmp_path}/records.sqlite", np.random.default_rng(0)
    who = [addresses[0] if k % 5 < 3 else addresses[1 + k % 2] for k in range(len(rows.y))]
    store = RecordStore(url)
    store.add(
        [Record(f"r{k}", 0, 1.0, "trained", 1, x.tobytes(), int(y), 0.5, 0.1, 0.9, 0.3, client)
         for k, (x, y, client) in enumerate(zip(rows.x, rows.y, who, strict=True))]
    )  # fmt: skip
    for address in addresses:
        wrong = rng.random(len(who)) < (0.5 if address == addresses[0] else 0.0)
        keys = [Key(f"r{k}", 0) for k, client in enumerate(who) if client == address]
        found = store.find(keys)
        true = {key: int(rows.y[int(key.id[1:])] ^ wrong[int(key.id[1:])]) for key in keys}
        store.add_feedback([(key, found[key], true[key]) for key in keys], address)
    task = task_of(registry, tmp_path, "trained", kind="retrain")
    frozen = msgspec.structs.replace(task.job, terms={"labeller_share": 0.5, "min_labels": 10})
    task = msgspec.structs.replace(task, database_url=url, job=frozen)
    collected, refereed = child.collect(task, tmp_path), child.referee(task, tmp_path)
    assert "above the quota of one client" in collected.unused
    assert "rows of 1 of the clients are set aside" in refereed.checks[0].detail
    ended = msgspec.structs.replace(
        task.job, state="done", outcome="inconclusive", checks=refereed.checks,
        detail=f"{collected.unused}; {refereed.checks[0].detail}",
    )  # fmt: skip
    shown = [msgspec.json.encode(each).decode() for each in (ended, collected, refereed)]
    shown += [write_verdict(tmp_path, ended).read_text(), *capsys.readouterr()]
    for address in addresses:
        assert not [text for text in shown if address in text]
    named = {
        file: text for file in tmp_path.iterdir() if file.suffix in (".json", ".npz")
        if addresses[0] in (text := file.read_bytes().replace(b"\0", b"").decode("latin-1"))
    }  # fmt: skip
    assert {file.name for file in named} == {"window.npz", "quota.json", "aside.json"}
    assert {file.stat().st_mode & 0o077 for file in named} == {0}


def test_wrapped_version_is_unknown_by_name_where_a_net_is_needed(
    registry: Registry, tmp_path: Path
) -> None:
    task = task_of(registry, tmp_path, "wrapped", challenger=1)
    referee = child.referee(task, tmp_path).checks[0]
    assert referee.verdict == "unknown"
    assert "cannot be fine-tuned" in referee.detail
    checks = {check.name: check for check in child.gate(task, tmp_path).checks}
    assert {"clean_accuracy", "robust_accuracy", "robust_floor", "latency"} < set(checks)
    for name in ("parity", "gradient_masking"):
        assert checks[name].verdict == "unknown"
        assert "a wrapped graph has no" in checks[name].detail


def ended(step: str, task: Task, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a step as the process would; the sentence that it ends with."""
    monkeypatch.setattr(child.os, "nice", lambda by: by)
    (folder / f"{step}.task.json").write_bytes(msgspec.json.encode(task))
    assert child.main(step, folder) == 1
    assert not (folder / f"{step}.json").exists()
    return (folder / f"{step}.error").read_text()


def test_wrapped_champion_cannot_be_retrained_and_the_step_says_what_to_do(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(registry, tmp_path, "wrapped", kind="retrain")
    told = ended("train", task, tmp_path, monkeypatch)
    assert told.startswith("wrapped/1 is a wrapped model")
    assert "wrap it again" in told
    assert registry.versions("wrapped") == (1,)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 9.9 TiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_step_without_memory_says_what_to_do(
    error: Exception, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(task: Task, folder: Path) -> dict[str, Any]:
        raise error

    monkeypatch.setitem(child.STEPS, "train", greedy)
    told = ended("train", task_of(registry, tmp_path, "trained"), tmp_path, monkeypatch)
    assert "not enough memory" in told
    assert "nothing was published" in told


def test_what_nobody_foresaw_is_not_called_a_lack_of_memory(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(task: Task, folder: Path) -> dict[str, Any]:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setitem(child.STEPS, "train", broken)
    told = ended("train", task_of(registry, tmp_path, "trained"), tmp_path, monkeypatch)
    assert told == "RuntimeError: shapes do not fit"


@pytest.mark.parametrize("deep", [True, False])
def test_a_full_disk_is_told_by_the_status_as_something_that_passes(
    deep: bool, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(task: Task, folder: Path) -> dict[str, Any]:
        error = OSError(errno.ENOSPC, "No space left on device")
        if not deep:
            raise error
        raise RegistryError("the version cannot be written") from error

    monkeypatch.setitem(child.STEPS, "train", full)
    monkeypatch.setattr(child.os, "nice", lambda by: by)
    task = task_of(registry, tmp_path, "trained")
    (tmp_path / "train.task.json").write_bytes(msgspec.json.encode(task))
    assert child.main("train", tmp_path) == PASSING_STATUS


def test_changed_data_are_refused(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cancer: DataSet
) -> None:
    fewer = Rows(cancer.test.x[1:], cancer.test.y[1:])
    other = DataSet(
        cancer.name, cancer.schema, cancer.classes, cancer.train, cancer.calibration, fewer
    )
    monkeypatch.setattr(data, "load", lambda source: other)
    with pytest.raises(HoldfastError, match="changed since trained/1"):
        child.evaluate(task_of_other(registry, tmp_path), tmp_path)


def task_of_other(registry: Registry, folder: Path) -> Task:
    """A task without a window: whether data have changed is asked before it is read."""
    job = Job("j", "evaluate", "trained", 1, "test", "test", 0.0, 0.0)
    return Task(job, str(registry.root), "sqlite://", retrain_epochs=1)


GREY = InputSchema("x", (1, 8, 8), "float32", 0.0, 1.0, "image")


@pytest.mark.parametrize(
    ("threat", "hopeless"),
    [(ThreatModel(eps=0.15), 0.5), (ThreatModel(eps=8 / 255), 0.5), (ThreatModel(eps=0.4), 0.5),
     (ThreatModel(eps=0.7), 0.5), (ThreatModel("l2", 0.5), 4.0), (ThreatModel(eps=0.05), 1.0)],
)  # fmt: skip
def test_sizes_for_masking_rise_from_below_the_threat_to_without_hope(
    threat: ThreatModel, hopeless: float
) -> None:
    sizes = masking_sizes(threat, hopeless)
    assert list(sizes) == sorted(set(sizes))
    assert 2 <= len(sizes) <= len(MASKING_EPS)
    assert sizes[0] < threat.eps or threat.eps > hopeless
    assert sizes[-1] >= max(hopeless, threat.eps)
    for eps in sizes:
        geometry_of(threat, GREY, eps)
