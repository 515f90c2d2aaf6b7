"""What a manifest says of how its version was made: data, training, wrapping, the event behind it.

The recipe, the net and the source of the data are records of rooms above this one. The manifest
holds them as plain JSON objects (`Plain`), and the room that owns the record converts them back.
"""

from typing import Any

import msgspec

from models.statistics.intervals import Proportion

Plain = dict[str, Any]  # a JSON object whose record belongs to a room above


class EventFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a version was made; at most one version is published per `id`.

    Args:
        id: of the command or the job that made it.
        reason: in words, for people.
        kind: of the job (`evaluate`, `retrain`); empty for a command.
        source: of the job (`drift`, `schedule`, `person` ...); empty for a command.
    """

    id: str = ""
    reason: str = ""
    kind: str = ""
    source: str = ""


class DataFacts(msgspec.Struct, frozen=True):
    """What is needed to load the same data again, and to see that it is the same.

    Args:
        name: of the data set.
        fingerprint: sha256 over schema, classes and all rows.
        source: a `models.data.Source`.
    """

    name: str
    fingerprint: str
    source: Plain


class BenignFacts(msgspec.Struct, frozen=True):
    """The user's own benign examples: where they came from (a `Source`) and sha256 of the rows."""

    source: Plain
    fingerprint: str
    rows: int


class OutputFacts(msgspec.Struct, frozen=True):
    """Which tensor of a wrapped model holds the classes, and where the graph reads them."""

    tensor: str
    kind: str
    read_from: str


class LayerFacts(msgspec.Struct, frozen=True):
    """The feature layer of a wrapped model."""

    tensor: str
    size: int


class TrialFacts(msgspec.Struct, frozen=True):
    """One way to feed a wrapped model that was tried, and how it did on labelled rows."""

    layout: str
    scale: str
    classes: str
    accuracy: float
    log_likelihood: float


class ParityFacts(msgspec.Struct, frozen=True):
    """How far the adapted graph is from the model itself, in the probabilities of `rows` rows."""

    rows: int
    largest_difference: float
    tolerance: float


class WrappingFacts(msgspec.Struct, frozen=True):
    """How a model that existed was adapted; what was not said by the user was found by trials.

    Args:
        file, sha256: of the model.
        producer, opset: what made it, and the operator sets that it uses.
        output, features: where classes and features are read; None without a feature layer.
        layout, scale, classes: how it is fed, and how its columns are ordered.
        accuracy: on the calibration rows that the trials were judged on.
        tried: all trials; `refused`: ways that the model did not take.
        parity: of the adapted graph and the model itself.
        notes: sentences that the owner should know.
    """

    file: str
    sha256: str = ""
    producer: str = ""
    opset: dict[str, int] = {}
    output: OutputFacts | None = None
    features: LayerFacts | None = None
    layout: str = ""
    scale: str = ""
    classes: str = ""
    accuracy: Proportion | None = None
    tried: tuple[TrialFacts, ...] = ()
    refused: tuple[str, ...] = ()
    parity: ParityFacts | None = None
    notes: tuple[str, ...] = ()


class TrainingFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a version was trained or wrapped.

    Args:
        data: what it was made from.
        seed: of weights, batches, attacks and heads.
        rows: it was trained on, copies and repeats included; 0 for a wrapped graph.
        recipe, net: a `Recipe` and a `NetSpec`; None for a wrapped graph.
        window_rows: rows of live traffic among the training rows.
        steps, cpu_seconds, precision: of the training; `parity`: largest difference of the logits
            of onnxruntime and torch.
        benign: the user's own benign examples, where there were some.
        wrapped: how a graph that existed was adapted.
    """

    data: DataFacts
    seed: int
    rows: int
    recipe: Plain | None = None
    net: Plain | None = None
    window_rows: int = 0
    steps: int | None = None
    cpu_seconds: float | None = None
    precision: str | None = None
    parity: float | None = None
    benign: BenignFacts | None = None
    wrapped: WrappingFacts | None = None
