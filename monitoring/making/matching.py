"""Which change of training rows makes them like the window: the augmentation of a retraining.

What moved is seen in the champion's channels. Held-out rows are changed in every way that exists
(corruptions of images and tables, augmentations of the training), and what brings their channels
nearest to those of the window is what training rows are changed by, too:

    d = mean over channels of H^2(p, q) - (B - 1) / 8 (1/n + 1/m)

with H^2 the squared Hellinger distance of two histograms of B bins from n and m rows; the second
term is what chance makes of it. Nothing is chosen where nothing has moved, or where no change
explains most of the move: a change that does not match would only make the task harder.

Source: Hellinger distance and its chi-square limit: Le Cam & Yang (2000), section 4.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from models.corruptions import SEVERITIES
from models.data import Rows
from models.training.augment import AUGMENTATIONS
from models.versions.bundle import Bundle
from models.versions.facts import MatchFacts
from models.versions.runner import Runner
from models.versions.schema import ChannelInfo, InputArray, InputSchema
from monitoring.evidence.alarm import rank_bins
from monitoring.scoring.perturbation.negatives import kinds_of

ROWS = 400  # held-out rows that are changed, and window rows, at most
LEAST_ROWS = 50  # of the window
MOVED = 0.01  # distance below which nothing has moved
EXPLAINED = 0.5  # share of the distance that a change must take away
TRIED_FIRST = 3  # the severity at which all changes are compared
REFINED = 5  # changes that are tried at every severity
Floats = npt.NDArray[np.float64]
Apply = Callable[[InputArray, np.random.Generator], InputArray]


@dataclass(frozen=True)
class Match:
    """What was chosen: `apply(x_raw, rng)` changes raw rows; None where nothing matches."""

    facts: MatchFacts
    apply: Apply | None = None


class _Tried(NamedTuple):
    distance: float
    name: str
    severity: int
    apply: Apply


def match_window(bundle: Bundle, held: Rows, window: InputArray, seed: int) -> Match:
    """The change that makes held-out rows most like the window, to a version's channels.

    Args:
        bundle: of the champion, whose channels say what moved.
        held: rows that it was not trained on, as the data set has them.
        window: `(N, *shape)` raw rows of live traffic.
        seed: of draws and changes.
    """
    schema, rng = bundle.manifest.input, np.random.default_rng(seed)
    if len(window) < LEAST_ROWS or len(held) < LEAST_ROWS:
        words = f"none matched: {len(window)} rows of the window, {LEAST_ROWS} are needed"
        return Match(MatchFacts("", 0, 0.0, 0.0, "", words))
    runner = Runner(bundle)
    few = held.x[rng.permutation(len(held))[:ROWS]]
    channels = _Channels(bundle, runner.run(window[-ROWS:]).cells)
    by_channel = channels.distances(runner.run(few).cells)
    before, channel = float(by_channel.mean()), channels.names[int(by_channel.argmax())]
    if before < MOVED:
        words = f"none matched: the window is as the data set ({before:.3f} apart)"
        return Match(MatchFacts("", 0, before, before, channel, words))

    def try_out(name: str, severity: int, apply: Apply) -> _Tried:
        changed = apply(few, np.random.default_rng(seed + zlib.crc32(name.encode())))
        return _Tried(
            float(channels.distances(runner.run(changed).cells).mean()), name, severity, apply
        )

    kinds = kinds_of(schema)
    tried = [try_out(n, TRIED_FIRST, _at(change, TRIED_FIRST)) for n, change in kinds.items()]
    tried += [try_out(name, 0, apply) for name, apply in _augmentations(schema).items()]
    for name in {each.name for each in sorted(tried, key=_rank)[:REFINED]} & kinds.keys():
        tried += [try_out(name, s, _at(kinds[name], s)) for s in SEVERITIES if s != TRIED_FIRST]
    best = min(tried, key=_rank)
    at = f" at severity {best.severity}" if best.severity else ""
    words = f"{best.name}{at} brings rows from {before:.3f} to {best.distance:.3f} of the window"
    moved = f"most moved: {channel}; {len(tried)} changes tried"
    if best.distance > (1 - EXPLAINED) * before:
        facts = MatchFacts("", 0, before, best.distance, channel, f"none matched: {words}; {moved}")
        return Match(facts)
    facts = MatchFacts(
        best.name, best.severity, before, best.distance, channel, f"{words}; {moved}"
    )
    return Match(facts, best.apply)


def _rank(tried: _Tried) -> tuple[float, str]:
    return tried.distance, tried.name


def _at(change: Callable[..., InputArray], severity: int) -> Apply:
    return lambda x, rng: change(x, severity, rng)


def _augmentations(schema: InputSchema) -> Mapping[str, Apply]:
    """Those of the training, which are for images, on raw rows."""
    if schema.kind == "tabular":
        return {}

    def augment(name: str, x: InputArray, rng: np.random.Generator) -> InputArray:
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 31)))
        x_unit = torch.from_numpy(schema.to_unit(x))
        return schema.from_unit(AUGMENTATIONS[name](x_unit, generator).numpy())

    return {f"augment/{name}": partial(augment, name) for name in AUGMENTATIONS}


class _Channels:
    """Coarse histograms of a version's channels, and their distance to those of a window."""

    def __init__(self, bundle: Bundle, cells: npt.NDArray[np.integer]) -> None:
        infos = bundle.manifest.channels
        self.names = [info.name for info in infos]
        self._bins = [_coarse(info, bundle.reference[f"{info.name}/alpha"]) for info in infos]
        self._rows, self._window = len(cells), self._histograms(cells)

    def distances(self, cells: npt.NDArray[np.integer]) -> Floats:
        """The distance of rows with these cells `(N, K)` to the window, for every channel."""
        chance = 1 / len(cells) + 1 / self._rows
        found = []
        for p, q in zip(self._histograms(cells), self._window, strict=True):
            used = int(np.count_nonzero((p > 0) | (q > 0)))
            found.append(0.5 * ((np.sqrt(p) - np.sqrt(q)) ** 2).sum() - (used - 1) / 8 * chance)
        distances: Floats = np.maximum(np.array(found), 0.0)
        return distances

    def _histograms(self, cells: npt.NDArray[np.integer]) -> list[Floats]:
        return [
            np.bincount(bins[cells[:, k]], minlength=int(bins.max()) + 1) / len(cells)
            for k, bins in enumerate(self._bins)
        ]


def _coarse(info: ChannelInfo, alpha: npt.NDArray[np.floating]) -> npt.NDArray[np.intp]:
    """The bin of every cell: by its rank within its class, or its category in all classes."""
    sizes = tuple(group.cells for group in info.groups) or (len(alpha),)
    if info.kind == "score":
        shares = np.asarray(alpha, dtype=np.float64) / alpha.sum()
        return rank_bins(info.labels, sizes, shares).astype(np.intp)
    return np.tile(np.arange(sizes[0], dtype=np.intp), len(sizes))
