"""What a manifest says of how its version was made: data, training, wrapping, the event behind it.

The recipe, the net and the source of the data are records of rooms above this one. The manifest
holds them as plain JSON objects (`Plain`), and the room that owns the record converts them back.
"""

from typing import Any

import msgspec

from models.statistics.shares import Proportion

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


class Estimate(msgspec.Struct, frozen=True):
    """A figure and the interval that it may well lie in."""

    value: float
    low: float
    high: float


class SkillFacts(msgspec.Struct, frozen=True):
    """What a wrapped model knows of labelled rows; intervals of three standard errors.

    Args:
        accuracy: with its 95 % interval.
        commonest: share of the commonest class, which is the accuracy of always naming it.
        balanced: mean of the classes' recalls.
        auc: mean of each class against the rest; None where only one class occurs.
        recall: of each class, with its 95 % interval.
        informative: whether its probabilities say more than the shares of the classes do.
    """

    accuracy: Proportion
    commonest: float
    balanced: Estimate
    auc: Estimate | None
    recall: dict[str, Proportion]
    informative: bool


class FileFacts(msgspec.Struct, frozen=True):
    """The model itself on the rows as they stand in the file, and the wrapped one on the same.

    Args:
        own, wrapped: accuracy of each.
        apart: rows to which they name different classes.
        refused: rows that the model itself refuses.
        fed: how the cells were given to the model itself, in words.
    """

    own: Proportion
    wrapped: Proportion
    apart: int
    refused: int
    fed: str


class WrappingFacts(msgspec.Struct, frozen=True):
    """How a model that existed was adapted; what was not said by the user was found by trials.

    Args:
        file, sha256: of the model.
        producer, opset: what made it, and the operator sets that it uses.
        output, features: where classes and features are read; None without a feature layer.
        layout, scale, classes: how it is fed, and how its columns are ordered.
        spelling: columns whose categories go in otherwise than as they are, and how they do.
        skill: on the calibration rows that the trials were judged on.
        as_in_file: of a table, the model itself on the rows as they stand in the file.
        tried: all trials; `refused`: ways that the model did not take.
        parity: of the adapted graph and the model itself.
        not_measured: what could not be measured, and why.
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
    spelling: dict[str, str] = {}
    skill: SkillFacts | None = None
    as_in_file: FileFacts | None = None
    tried: tuple[TrialFacts, ...] = ()
    refused: tuple[str, ...] = ()
    parity: ParityFacts | None = None
    not_measured: dict[str, str] = {}
    notes: tuple[str, ...] = ()


class LiveFacts(msgspec.Struct, frozen=True):
    """Labelled live rows that a version keeps (`lineage.npz`), of this window and earlier ones.

    Args:
        train: rows that are trained on, fewer copies of older ones.
        test: rows by which later challengers are judged, beside the test part.
        windows: how many windows they come from.
    """

    train: int
    test: int
    windows: int


class FollowedFacts(msgspec.Struct, frozen=True):
    """A change of labels that was followed: rows of class `old` are called `new` since `event`.

    Args:
        old, new: names of the classes.
        rows, share: rows of the window that were surely of `old`, and the share labelled `new`.
        by: who said that it is meant, in words.
        event: the job that followed it.
    """

    old: str
    new: str
    rows: int
    share: float
    by: str
    event: str


class MatchFacts(msgspec.Struct, frozen=True):
    """The change of training rows that brings them nearest to the window, or none.

    Args:
        name: of the change; empty: none matched.
        severity: 1 to 5; 0 where it has none.
        before, after: distance of the unchanged and of the changed rows to the window, a mean
            over channels of squared Hellinger distances, less what chance makes of it.
        channel: the one that moved most.
        words: the reason, as a sentence.
    """

    name: str
    severity: int
    before: float
    after: float
    channel: str
    words: str


class TrainingFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a version was trained or wrapped.

    Args:
        data: what it was made from.
        seed: of weights, batches, attacks and heads.
        rows: it was trained on, copies and repeats included; 0 for a wrapped graph.
        recipe, net: a `Recipe` and a `NetSpec`; None for a wrapped graph.
        window_rows: rows of live traffic among the training rows.
        steps, cpu_seconds, precision, device: of the training; `parity`: largest difference of the
            logits of onnxruntime and torch.
        benign: the user's own benign examples, where there were some.
        wrapped: how a graph that existed was adapted.
        live: what it keeps of live traffic; None: nothing.
        followed: changes of labels that it and the versions before it have followed.
        matched: how training rows were changed to be like the window; None: without a window.
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
    device: str | None = None
    parity: float | None = None
    benign: BenignFacts | None = None
    wrapped: WrappingFacts | None = None
    live: LiveFacts | None = None
    followed: tuple[FollowedFacts, ...] = ()
    matched: MatchFacts | None = None
