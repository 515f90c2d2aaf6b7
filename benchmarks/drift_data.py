"""What the drift benchmarks share: a classifier, the scores of its held-out rows, their cells.

The held-out rows are the calibration and the test part together: neither was trained on. Whoever
compares a stream with a reference deals both from this pool anew in every run, because only then
are they exchangeable (the test file of MNIST in its own order drifts).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from benchmarks.peers import PEERS
from models import attacks, data
from models.base.allocation import keep_freed_memory
from models.data import DataSet, Rows
from models.nets import export, factories
from models.statistics.arrays import FloatArray, IntArray
from models.training.loop import train
from models.training.recipe import Recipe
from monitoring.evidence.bets import ChannelReference
from monitoring.scoring.cells import Cells
from monitoring.scoring.channels import base as ch
from monitoring.scoring.channels.catalogue import Fitting, score_channels

MNIST = (Path(__file__).parents[1] / "../shared/data/mnist").resolve()
EPOCHS = {"mnist": 3, "digits": 30}
REFERENCES = 2048  # training rows that feature distances are measured to
CHUNK = 500
Images = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scored:
    """What is known of N rows after one pass: scores `(N, S)` and probabilities `(N, K)`."""

    scores: FloatArray
    probabilities: FloatArray

    @property
    def predicted(self) -> IntArray:
        """`(N,)`."""
        labels: IntArray = self.probabilities.argmax(axis=1)
        return labels

    def take(self, index: IntArray) -> Scored:
        """The rows at `index`."""
        return Scored(self.scores[index], self.probabilities[index])

    def mixed(self, other: Scored, changed: npt.NDArray[np.bool_]) -> Scored:
        """These rows, with the rows of `other` in the places that `changed` `(N,)` names."""
        where = changed[:, None]
        return Scored(
            np.where(where, other.scores, self.scores),
            np.where(where, other.probabilities, self.probabilities),
        )


def joined(parts: Iterable[Scored]) -> Scored:
    """The rows of all parts, one after the other."""
    kept = list(parts)
    return Scored(
        np.concatenate([p.scores for p in kept]), np.concatenate([p.probabilities for p in kept])
    )


@dataclass(frozen=True)
class Classifier:
    """A trained net with the score channels that the product fits to it."""

    data: DataSet
    net: nn.Module
    about: str

    @cached_property
    def channels(self) -> list[ch.ScoreChannel]:
        """Fitted on training rows, as `monitoring.scoring.instrument` does."""
        x = self.data.schema.to_unit(self.data.train.x[:REFERENCES])
        logits, features = self.outputs(x)
        return score_channels(self.data.schema.kind, Fitting(logits, features, x))

    @property
    def names(self) -> list[str]:
        """Of the score channels."""
        return [channel.name for channel in self.channels]

    @cached_property
    def pool(self) -> Rows:
        """The held-out rows."""
        return self.data.calibration.joined(self.data.test)

    @cached_property
    def pool_unit(self) -> Images:
        """The held-out rows in [0, 1]."""
        return self.data.schema.to_unit(self.pool.x)

    def outputs(self, x_unit: Images) -> tuple[FloatArray, FloatArray]:
        """Logits `(N, K)` and features `(N, F)`."""
        with torch.no_grad():
            parts = [self.net(part) for part in torch.from_numpy(x_unit).split(CHUNK)]
        return (
            torch.cat([logits for logits, _ in parts]).numpy(),
            torch.cat([features for _, features in parts]).numpy(),
        )

    def scored(self, x_unit: Images) -> Scored:
        """Scores of images as the service gets them: rounded to the values of the schema."""
        sent = self.data.schema.to_unit(self.data.schema.from_unit(x_unit))
        parts = []
        for start in range(0, len(sent), CHUNK):
            x = sent[start : start + CHUNK]
            logits, features = self.outputs(x)
            rows = ch.PlainAnswers(x, logits, features)
            scores = np.stack([channel.scores(rows) for channel in self.channels], axis=1)
            shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
            probabilities = shifted / shifted.sum(axis=1, keepdims=True)
            parts.append(Scored(scores.astype(np.float32), probabilities))
        return joined(parts)

    def fgsm(self, x_unit: Images, y: IntArray, eps: float) -> Images:
        """One step of size `eps` along the sign of the gradient (Goodfellow et al. 2015)."""
        return np.clip(x_unit + np.float32(eps) * self.gradient_sign(x_unit, y), 0, 1)

    def gradient_sign(self, x_unit: Images, y: IntArray) -> Images:
        """Sign of the loss's gradient at the inputs."""
        parts = []
        with attacks.frozen(self.net):
            for start in range(0, len(x_unit), CHUNK):
                x = torch.from_numpy(x_unit[start : start + CHUNK]).requires_grad_()
                target = torch.from_numpy(y[start : start + CHUNK].astype(np.int64))
                loss = nn.functional.cross_entropy(self.net(x)[0], target, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, x)
                parts.append(gradient.sign().numpy())
        return np.concatenate(parts)


def classifier(name: str, load: Path | None = None) -> Classifier:
    """A classifier of "mnist" or "digits": trained in the standard way (once), or loaded.

    Args:
        name: of the data.
        load: weights of the preset's net, trained on the training part of the data.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    if name == "mnist" and not MNIST.exists():
        raise SystemExit("no MNIST beside the checkout (../shared/data/mnist); try --data digits")
    rows = data.load(str(MNIST) if name == "mnist" else name)
    torch.manual_seed(0)
    net = factories.build(factories.spec_for(rows.schema, len(rows.classes)))
    about = f"{name}, weights of {load.name}" if load else f"{name}, standard training"
    cache = load or PEERS / f"drift_{name}.safetensors"
    if cache.exists():
        export.load_weights(net, cache.read_bytes())
    else:
        recipe = Recipe(method="standard", epochs=EPOCHS[name], batch_size=128)
        net = train(net, rows.train, rows.schema, recipe).net
        cache.parent.mkdir(exist_ok=True)
        cache.write_bytes(export.weights_bytes(net))
    return Classifier(rows, net.eval(), about)


@dataclass(frozen=True)
class Reference:
    """The cells of n held-out rows, and where other rows fall into them."""

    names: tuple[str, ...]  # of the score channels
    fitted: Cells
    channels: tuple[ChannelReference, ...]  # the score channels, then the predicted class

    @classmethod
    def of(cls, names: Iterable[str], held: Scored, classes: int) -> Reference:
        """Cut the scores of held-out rows into rank cells as the product does."""
        names, labels = tuple(names), tuple(map(str, range(classes)))
        cells = Cells.fit(names, held.scores, held.predicted, labels)
        channels = [
            ChannelReference(
                c.name,
                c.kind,
                cells.reference[f"{c.name}/alpha"],
                c.labels,
                groups=tuple(group.cells for group in c.groups),
            )
            for c in cells.channels
        ]
        return cls(names, cells, tuple(channels))

    def cells(self, rows: Scored) -> IntArray:
        """The cell `(N, C)` of every row in every channel."""
        return np.column_stack(
            [self.fitted.score_cells(rows.scores, rows.predicted), rows.predicted]
        )

    def counts(self, cells: IntArray) -> dict[str, IntArray]:
        """Counts of all the cells `(m, C)`, by channel."""
        return {
            channel.name: np.bincount(column, minlength=len(channel.alpha))
            for channel, column in zip(self.channels, cells.T, strict=True)
        }
