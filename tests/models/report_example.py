"""Figures of an evaluation with every key there is, synthesised: for the layout of the report."""

import base64
from typing import Any

import msgspec
import numpy as np

from models.statistics.intervals import proportion
from models.versions.facts import DataFacts, EventFacts, TrainingFacts
from models.versions.figures import Evaluation
from models.versions.schema import SCHEMA_VERSION, Calibration, Column, InputSchema, Manifest

PIXEL = "data:image/png;base64," + base64.b64encode(b"\x89PNG any bytes").decode()
PICTURE = {"true": "3", "predicted": "8", "eps": 0.041, "norm": "linf"} | dict.fromkeys(
    ("original", "changed", "difference"), PIXEL
)


LEAST = {
    "suite": "full", "n": 368, "seed": 0, "threat": {"eps": 0.15}, "eps": 0.15, "black_box": False,
    "clean": {"value": None, "low": 0.0, "high": 1.0, "n": 0},
}  # fmt: skip


def read(figures: dict[str, Any]) -> Evaluation:
    """The record of figures as they stand in a `report.json`; what must be there is filled in."""
    return msgspec.convert(LEAST | figures, Evaluation)


def share(value: float, n: int = 368) -> dict[str, Any]:
    return msgspec.to_builtins(proportion(np.arange(n) < round(value * n)))


def example() -> tuple[Manifest, Evaluation]:
    """A manifest and the figures of a full evaluation, synthesised, with every key there is."""
    manifest, figures = plain_example()
    return manifest, read(figures)


def plain_example() -> tuple[Manifest, dict[str, Any]]:
    """The same with the figures as they stand in `report.json`."""
    names = tuple(str(k) for k in range(10))
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        model="digits",
        version=3,
        created_at="2026-11-24T13:52:35.556Z",
        input=InputSchema("input", (1, 8, 8), "float32", 0, 16, "image"),
        classes=names,
        channels=(),
        calibration=Calibration(
            361, 0.01, 0.7, 0.7, "361 rows that were not trained on", 1.0, 0.05, 10
        ),
        training=TrainingFacts(
            recipe={"method": "trades", "eps": 0.25, "max_steps": None, "columns": {}},
            net={"factory": "small_conv", "kwargs": {"shape": [1, 8, 8]}},
            data=DataFacts("digits", "8eef033a44dc8620" * 4, {"path": "digits"}),
            rows=1068,
            cpu_seconds=4.631,
            seed=0,
        ),
        evaluation=None,
        parent=2,
        event=EventFacts(reason="drift"),
        files={},
        sizes={},
    )
    return manifest, figures_for(names)


def figures_for(names: tuple[str, ...]) -> dict[str, Any]:
    sizes = (0.05, 0.1, 0.2)
    curve = [{"attack": "pgd-20", "eps": e, **share(0.9 - 3 * e)} for e in sizes]
    corruptions = [
        {"name": name, "group": group, "severity": s, **share(0.9 - cost * s)}
        for group, name, cost in (("holdfast", "gaussian_noise", 0.02), ("imagenet-c", "fog", 0.13))
        for s in range(1, 6)
    ]
    ece = {"value": 0.031, "low": 0.0123, "high": 0.0498, "n": 368}
    return {
        "suite": "full",
        "n": 368,
        "seed": 7,
        "threat": {"norm": "linf", "eps": 0.15, "columns": {}},
        "eps": 0.15,
        "black_box": False,
        "clean": share(0.916),
        "window": share(0.887, 53),
        "classes": {n: share(1 - k / 40, 37) for k, n in enumerate(names)},
        "classes_robust": {n: share(0.6 - k / 40, 37) for k, n in enumerate(names)},
        "confusions": [{"true": names[-1], "predicted": names[0], "count": 5, "n": 45}],
        "robust": share(0.49) | {"attack": "apgd-ce + apgd-t", "eps": 0.15},
        "attacks": [
            {"attack": "apgd-ce", "eps": 0.15, **share(0.51)},
            {"attack": "apgd-ce + apgd-t", "eps": 0.15, **share(0.49)},
        ],
        "robust_curve": curve,
        "noise_curve": [{"eps": e, **share(0.91 - e / 3)} for e in sizes],
        "masking": [
            {"name": "accuracy_falls_with_eps", "passed": True, "detail": "it falls"},
            {"name": "white_box_not_weaker_than_black_box", "passed": False, "detail": "3 rows"},
            {"name": "more_steps_not_weaker", "passed": None, "detail": ""},
        ],
        "corruptions": corruptions,
        "mce": {"value": 0.93, "low": 0.88, "high": 0.99, "n": 368, "relative_to": 2},
        "stress": [],
        "edge_cases": [
            {"name": "uniform noise", "n": 64, "finite": True, "confidence": 0.97}
            | {"drift_flagged": 0.25}
        ],
        "calibration": {"ece": ece, "bins": _bins()},
        "scores": _scores(),
        "certified": {"sigma": 0.25, "samples": 1000, "alpha": 0.001, "n": 100}
        | {"points": [{"radius": r, **share(0.88 - r, 100)} for r in (0.0, 0.25, 0.5)]},
        "gallery": [dict(PICTURE)],
        "previous": _previous(curve, corruptions),
    }


def _scores() -> dict[str, Any]:
    return {
        "false_positives_expected": [0, 9],
        "drift_false_positives": share(0.03),
        "perturbation_false_positives": share(0.01),
        "perturbation_detected": share(0.85),
        "perturbation_auroc": 0.9951,
        "severity_3": {"gaussian_noise": {"drift_auroc": 0.6, "perturbation_flagged": 0.141}},
        "roc": [
            {"attack": a, "trained_on": t, "auroc": 0.87, "low": 0.84, "high": 0.9, "n": 337}
            | {"points": [[0.0, 0.1], [0.005, 0.3], [0.02, 0.6], [1.0, 1.0]]}
            | {"caught": {"0.01": share(0.375, 337), "0.05": share(0.61, 337)}}
            for a, t in (("fgsm", True), ("square", False))
        ],
        "likelihood": {
            "ece": {"value": 0.0213, "low": 0.0, "high": 0.0577, "n": 368},
            "bins": _bins(),
        },
        "adaptive": _adaptive(),
        "drift_expected": [0, 9],
        "drift_by_class": {
            "3": {"flagged": share(0.0, 40), "tenth": share(0.05, 40)},
            "8": {"flagged": share(0.025, 40), "tenth": share(0.2, 40)},
        },
    }


def _adaptive() -> dict[str, Any]:
    def shares(*values: float) -> dict[str, Any]:
        keys = ("fooled", "undetected", "undetected_by_both")
        return {key: share(v, 64) for key, v in zip(keys, values, strict=True)}

    return {
        "n": 64,
        "steps": 20,
        "restarts": 1,
        "static": {"attack": "apgd-ce + apgd-t", **shares(0.375, 0.0625, 0.0469)},
        "adaptive": shares(0.375, 0.25, 0.1875),
        "weights": [
            {"weight": "in turn", **shares(0.375, 0.2344, 0.1875)},
            {"weight": 0.5, **shares(0.375, 0.25, 0.1719)},
        ],
        "best": 0.5,
        "flat": 0.0,
    }


def _previous(curve: list[Any], corruptions: list[Any]) -> dict[str, Any]:
    return {
        "version": 2,
        "clean": share(0.93),
        "robust": share(0.38) | {"attack": "apgd-ce + apgd-t", "eps": 0.15},
        "robust_curve": [{**p, **share(max(0.0, p["value"] - 0.1))} for p in curve],
        "corruptions": [{**c, **share(c["value"] - 0.02)} for c in corruptions],
        "calibration": {"ece": share(0.06)},
    }


def _bins() -> list[dict[str, Any]]:
    return [
        {"low": a, "high": a + 0.2, "n": 92, "confidence": a + 0.1, "accuracy": a}
        for a in (0.2, 0.4, 0.6, 0.8)
    ]


def table_example() -> tuple[Manifest, Evaluation]:
    """A black box on a table of two classes."""
    manifest, figures = plain_table_example()
    return manifest, read(figures)


def plain_table_example() -> tuple[Manifest, dict[str, Any]]:
    """The same with the figures as they stand in `report.json`."""
    manifest, figures = plain_example()
    columns = (
        Column("age", low=18, high=90),
        Column("income", high=2e5, missing=True),
        Column("sex", kind="categorical", categories=("f", "m")),
    )
    schema = InputSchema("row", (3,), "float32", 0, 1, "tabular", columns)
    manifest = msgspec.structs.replace(manifest, input=schema, classes=("yes", "no"), parent=None)
    stress = [
        {"name": "unit_change", "severity": s, **share(0.9 - s / 8), "drift_flagged": s / 10}
        for s in (1, 3, 5)
    ]
    classes = {"yes": share(0.98, 70), "no": share(0.0, 0)}
    changed = {"black_box": True, "stress": stress, "classes": classes, "classes_robust": {}}
    left = {"gallery": [], "corruptions": [], "mce": None, "previous": None, "certified": None}
    threat = {"threat": {"norm": "linf", "eps": 0.1, "columns": {"age": [0.0, 1.0]}}}
    return manifest, figures | changed | left | threat
