"""Versions that are whole to the registry and mean nothing: a few bytes each."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np

from models.statistics.shares import Proportion
from models.versions import bundle as files
from models.versions.facts import EventFacts
from models.versions.figures import Evaluation
from models.versions.judging import ThreatModel
from models.versions.registry import Registry
from models.versions.schema import SCHEMA_VERSION, Calibration, InputSchema, Manifest

Maker = Callable[[int], tuple[Mapping[str, bytes], Manifest]]
FIGURES = Evaluation(
    suite="quick", n=900, seed=0, threat=ThreatModel(eps=0.1), eps=0.1, black_box=False,
    clean=Proportion(0.9, 0.88, 0.92, 900),
)  # fmt: skip


def copy_of(registry: Registry, model: str, version: int, event: EventFacts) -> Maker:
    """Makes a version of another one's files."""
    old = registry.open(model, str(version))
    contents = {name: old.read(name) for name in old.manifest.files}

    def make(number: int) -> tuple[Mapping[str, bytes], Manifest]:
        changes = {"version": number, "parent": version, "event": event}
        return contents, msgspec.structs.replace(old.manifest, **changes)

    return make


def publish(root: Path, model: str = "digits", *, promote: bool = True) -> int:
    """Publish a version of nothing; its number."""
    registry, reference = Registry(root), io.BytesIO()
    np.savez(reference, allow_pickle=False, nothing=np.zeros(1))
    schema = InputSchema("x", (1,), "float32", 0.0, 1.0, "tabular")
    facts = Calibration(900, 0.05, 0.5, 0.5, "nothing", 1.0, 0.05, 10)

    def make(version: int) -> tuple[Mapping[str, bytes], Manifest]:
        manifest = Manifest(
            SCHEMA_VERSION, model, version, "2026-01-01T00:00:00Z", schema, ("a", "b"), (), facts,
            None, FIGURES, None, None, {}, {},
        )  # fmt: skip
        return {files.MODEL: b"none", files.REFERENCE: reference.getvalue()}, manifest

    version = registry.publish(model, make, actor="test", reason="test")
    if promote:
        champion = registry.aliases(model).champion
        registry.promote(
            model, version, expected=champion, actor="test", reason="t", by_person=True
        )
    return version
