"""`python -m benchmarks.drift_failing_loudly`: the protocol of "Failing Loudly" on MNIST.

Ten families of shift at three strengths, a batch of m requests, level .05: how often is the shift
detected? (Rabanser, Günnemann, Lipton, NeurIPS 2019; no code of theirs.) Beside each other in one
run, on the same rows and the same classifier:

- BBSDs: a two-sample KS test per softmax output, Bonferroni over the ten; against m held-out rows
  as in the paper, and against all rows of the reference;
- stream: the product's evidence, started afresh, a fiftieth of the requests at a time (at least
  one), with c = m / .05, so that P(a false alarm within m requests) <= .05;
- batch: the evidence of all m requests at once, mean_j E_j >= C / .05 in one of the C channels (an
  e-value: Markov's inequality and Bonferroni);
- urn test: the same number, but its critical value at level .05 / C drawn from the Pólya urn
  itself, which is its exact law without a shift, whatever the scores are.

Departures from the paper: a small convolutional net in place of its ResNet-18; reference and
traffic are dealt anew in every split; a row's noise, turn and shift are drawn once; pixels are
rounded to bytes, because that is what a service gets. Where m is more than there is (only zeros:
about 980 rows, without zeros 9000) the batch is all there is.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from scipy.special import gammaln, logsumexp
from scipy.stats import ks_2samp

from benchmarks.drift_data import Classifier, Images, Reference, Scored, classifier
from models.corruptions import noisy
from models.statistics.arrays import FloatArray, IntArray
from models.statistics.intervals import proportion
from monitoring.evidence.bets import ChannelReference, fit_tilts
from monitoring.evidence.channels import StreamEvidence

LEVEL = 0.05
SAMPLES = (10, 20, 50, 100, 200, 500, 1000)
SHARES = (0.1, 0.5, 1.0)
HELD = 5000
EXACT_KS = 200_000  # pairs of rows; the asymptotic p-value beyond
URN_DRAWS = 10_000
LOOKS = 50
EPS_STEPS = np.concatenate([np.arange(0.02, 0.31, 0.02), np.arange(0.35, 1.01, 0.05)])
METHODS = ("BBSDs, m rows", "BBSDs, all rows", "stream", "batch", "urn test")


@dataclass(frozen=True)
class Turns:
    """How far an image is turned (degrees), moved and zoomed (shares), sheared, flipped."""

    degrees: float
    moved: float
    zoomed: float
    sheared: float
    flips: int  # 0: none, 1: left and right, 2: also upside down


TURNS = {
    "small image shift": Turns(10, 0.05, 0.1, 0.1, 0),
    "medium image shift": Turns(40, 0.2, 0.2, 0.2, 1),
    "large image shift": Turns(90, 0.4, 0.4, 0.3, 2),
}
NOISE = {"small noise": 1 / 255, "medium noise": 10 / 255, "large noise": 100 / 255}


def turned(x: Images, turns: Turns, rng: np.random.Generator) -> Images:
    """Every image `(N, 1, H, W)` under an affine map of its own; what is unknown is the edge's."""
    result = np.empty_like(x)
    centre = (np.array(x.shape[2:]) - 1) / 2
    for image, out in zip(x[:, 0], result[:, 0], strict=True):
        angle = np.deg2rad(rng.uniform(-turns.degrees, turns.degrees))
        shear = np.deg2rad(rng.uniform(-turns.sheared, turns.sheared))
        zoom = rng.uniform(1 - turns.zoomed, 1 + turns.zoomed, 2)
        move = rng.uniform(-turns.moved, turns.moved, 2) * x.shape[2:]
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = turn @ np.array([[1, -np.sin(shear)], [0, np.cos(shear)]]) @ np.diag(zoom)
        offset = centre - matrix @ (centre - move)
        image = ndimage.affine_transform(image, matrix, offset, order=1, mode="nearest")
        for axis in range(turns.flips):
            image = np.flip(image, axis=1 - axis) if rng.random() < 0.5 else image
        out[:] = image
    return np.clip(result, 0, 1)


def smallest_fgsm(subject: Classifier) -> Images:
    """The held-out rows under the smallest FGSM step that fools; unchanged where none does."""
    x, y = subject.pool_unit, subject.pool.y
    sign, found = subject.gradient_sign(x, y), x.copy()
    left = np.arange(len(x))
    for eps in EPS_STEPS:
        tried = np.clip(x[left] + np.float32(eps) * sign[left], 0, 1)
        fooled = subject.outputs(tried)[0].argmax(axis=1) != y[left]
        found[left[fooled]] = tried[fooled]
        left = left[~fooled]
    return found


@dataclass(frozen=True)
class Shifted:
    """The scores of all held-out rows, clean and under every change."""

    clean: Scored
    changed: dict[str, Scored]
    y: IntArray

    @classmethod
    def of(cls, subject: Classifier, rng: np.random.Generator) -> Shifted:
        """Change and score all held-out rows."""
        x = subject.pool_unit
        changed = {"adversarial": subject.scored(smallest_fgsm(subject))}
        for name, sigma in NOISE.items():
            changed[name] = subject.scored(noisy(x, sigma, rng))
        for name, turns in TURNS.items():
            changed[name] = subject.scored(turned(x, turns, rng))
        return cls(subject.scored(x), changed, subject.pool.y)

    def families(
        self, traffic: IntArray, rng: np.random.Generator
    ) -> Iterator[tuple[str, float, Scored]]:
        """Ten families at three strengths: (family, share, scores) of `traffic` rows, shuffled."""
        for name in self.changed:
            for share in SHARES:
                yield name, share, self._part(traffic, name, share, rng)
        medium = "medium image shift"
        for share in SHARES:
            fewer = self._without(traffic, share)
            yield "knock-out", share, self._part(fewer, medium, 0.0, rng)
            yield "medium image shift + knock-out", share, self._part(fewer, medium, 0.5, rng)
            zeros = traffic[self.y[traffic] == 0]
            yield "only zeros + medium image shift", share, self._part(zeros, medium, share, rng)

    def _without(self, traffic: IntArray, share: float) -> IntArray:
        """The rows without a share of the class 0."""
        zeros = traffic[self.y[traffic] == 0]
        return np.setdiff1d(traffic, zeros[: round(share * len(zeros))])

    def _part(self, index: IntArray, name: str, share: float, rng: np.random.Generator) -> Scored:
        """The rows in random order, a share of them changed."""
        index = rng.permutation(index)
        hit = np.zeros(len(index), dtype=bool)
        hit[: round(share * len(index))] = True
        rng.shuffle(hit)
        return self.clean.take(index).mixed(self.changed[name].take(index), hit)


def ks_rejects(held: FloatArray, batch: FloatArray) -> bool:
    """Whether one of the outputs `(n, K)` and `(m, K)` differs, at LEVEL / K each."""
    largest, column = 0.0, 0
    for k in range(held.shape[1]):
        a, b = np.sort(held[:, k]), np.sort(batch[:, k])
        values = np.concatenate([a, b])
        gap = np.searchsorted(a, values, "right") / len(a)
        gap -= np.searchsorted(b, values, "right") / len(b)
        if np.abs(gap).max() > largest:
            largest, column = float(np.abs(gap).max()), k
    # For given sample sizes the p-value falls with the distance: the largest distance decides.
    method = "asymp" if len(held) * len(batch) > EXACT_KS else "auto"
    found = ks_2samp(held[:, column], batch[:, column], method=method)
    return bool(found.pvalue <= LEVEL / held.shape[1])


class Ours:
    """The evidence of one reference: as a stream, as one e-value, and as an exact test."""

    def __init__(self, reference: Reference, seed: int) -> None:
        self.reference = reference
        self.rng = np.random.default_rng(seed)
        found = [fit_tilts(channel)[1] for channel in reference.channels]
        self.tilts = [np.array([t.row(j) for j in range(len(t))]) for t in found]
        self.critical = cache(self._critical)

    def stream(self, cells: IntArray) -> bool:
        """One request after the other, c = m / LEVEL."""
        evidence = StreamEvidence(self.reference.channels, c=len(cells) / LEVEL)
        size = max(1, len(cells) // LOOKS)
        for start in range(0, len(cells), size):
            evidence.update(self.reference.counts(cells[start : start + size]))
            if evidence.alarm is not None:
                return True
        return False

    def ln_evidence(self, cells: IntArray) -> FloatArray:
        """ln mean_j E_j of every channel, `(C,)`."""
        counts = self.reference.counts(cells)
        pairs = zip(self.reference.channels, self.tilts, strict=True)
        return np.array([ln_mean_e(ref, tau, counts[ref.name][None])[0] for ref, tau in pairs])

    def winner(self, cells: IntArray) -> str:
        """The channel that stands out most in the urn test."""
        over = self.ln_evidence(cells) - self.critical(len(cells))
        return self.reference.channels[int(over.argmax())].name

    def batch(self, cells: IntArray) -> bool:
        """Markov and Bonferroni."""
        channels = len(self.reference.channels)
        return bool(self.ln_evidence(cells).max() >= np.log(channels / LEVEL))

    def urn_test(self, cells: IntArray) -> bool:
        """Against critical values drawn from the urns."""
        return bool((self.ln_evidence(cells) > self.critical(len(cells))).any())

    def _critical(self, m: int) -> FloatArray:
        """The value that an urn's m draws exceed with probability LEVEL / C, by channel."""
        level = LEVEL / len(self.reference.channels)
        critical = []
        for channel, tau in zip(self.reference.channels, self.tilts, strict=True):
            filled = channel.alpha > 0
            shares = np.zeros((URN_DRAWS, len(filled)))
            shares[:, filled] = self.rng.dirichlet(channel.alpha[filled], size=URN_DRAWS)
            seen = ln_mean_e(channel, tau, self.rng.multinomial(m, shares))
            # The k-th largest of B draws: P(a further one is larger) <= k / (B + 1).
            critical.append(np.sort(seen)[-int(level * (URN_DRAWS + 1))])
        return np.array(critical)


def ln_mean_e(channel: ChannelReference, tau: FloatArray, counts: IntArray) -> FloatArray:
    """ln mean_j E_j `(B,)` of the counts `(B, G)` of batches, as `urn.ln_e_values`."""
    filled = channel.alpha > 0
    alpha, tau, drawn = channel.alpha[filled], tau[:, filled], counts[:, filled].astype(np.float64)
    total, m = alpha.sum(), drawn.sum(axis=1)
    urn = drawn @ np.log(alpha) - (gammaln(alpha + drawn) - gammaln(alpha)).sum(axis=1)
    urn += gammaln(total + m) - gammaln(total)
    ln_e = drawn @ np.log(tau).T - m[:, None] * np.log(tau @ alpha) + urn[:, None]
    result: FloatArray = logsumexp(ln_e, axis=1) - np.log(len(tau))
    return result


@dataclass
class Tally:
    """Detections by (method, m, family, share)."""

    seen: dict[tuple[str, int, str, float], list[bool]] = field(default_factory=dict)
    winners: dict[tuple[str, float], list[str]] = field(default_factory=dict)

    def add(self, key: tuple[int, str, float], found: dict[str, bool]) -> None:
        """The answers of all methods to one batch."""
        for method, detected in found.items():
            self.seen.setdefault((method, *key), []).append(detected)

    def share(self, method: str, m: int, keep: Callable[[str, float], bool]) -> list[bool]:
        """All answers of a method at m where family and share are to be kept."""
        parts = [v for (a, b, f, s), v in self.seen.items() if (a, b) == (method, m) and keep(f, s)]
        return [answer for part in parts for answer in part]


def answers(ours: Ours, held: Scored, batch: Scored, pick: IntArray) -> dict[str, bool]:
    """What every method says of a batch of m rows; `pick` are as many rows of the reference."""
    cells = ours.reference.cells(batch)
    return {
        METHODS[0]: ks_rejects(held.probabilities[pick], batch.probabilities),
        METHODS[1]: ks_rejects(held.probabilities, batch.probabilities),
        METHODS[2]: ours.stream(cells),
        METHODS[3]: ours.batch(cells),
        METHODS[4]: ours.urn_test(cells),
    }


def run(subject: Classifier, splits: int, nulls: int, samples: tuple[int, ...], seed: int) -> Tally:
    """All families, and batches without a shift, over random splits of the held-out rows."""
    rng = np.random.default_rng(seed)
    shifted, tally = Shifted.of(subject, rng), Tally()
    for split in range(splits):
        order = rng.permutation(len(subject.pool))
        held, traffic = shifted.clean.take(order[:HELD]), order[HELD:]
        reference = Reference.of(subject.names, held, len(subject.data.classes))
        ours = Ours(reference, split)
        batches = list(shifted.families(traffic, rng))
        clean = shifted.clean
        for m in samples:
            for _ in range(nulls if m < len(traffic) else 1):  # there is but one batch of them all
                batch = clean.take(rng.choice(traffic, m, replace=False))
                tally.add((m, "none", 0.0), answers(ours, held, batch, rng.permutation(HELD)[:m]))
            for family, share, rows in batches:
                batch = rows.take(np.arange(min(m, len(rows.scores))))
                pick = rng.permutation(HELD)[:m]
                tally.add((m, family, share), answers(ours, held, batch, pick))
                if m == 100:
                    winner = ours.winner(reference.cells(batch))
                    tally.winners.setdefault((family, share), []).append(winner)
    return tally


def show(tally: Tally, samples: tuple[int, ...]) -> None:
    """The three tables."""
    print("\n| detected, mean over ten families |" + "".join(f" m = {m} |" for m in samples))
    print("|---|" + "--:|" * len(samples))
    for title, keep in (("", lambda f, s: f != "none"), ("no shift: ", lambda f, s: f == "none")):
        for method in METHODS:
            cells = [tally.share(method, m, keep) for m in samples]
            print(f"| {title}{method} |" + "".join(f" {np.mean(c):.3f} |" for c in cells))
    for method in METHODS:
        none = [a for m in samples for a in tally.share(method, m, lambda f, s: f == "none")]
        p = proportion(np.array(none))
        print(
            f"no shift, every m: {method}: {p.value:.3f} ({p.low:.3f} to {p.high:.3f}, n = {p.n})"
        )
    print(
        "\n| m = 100 | share |" + "".join(f" {method} |" for method in METHODS) + " most telling |"
    )
    print("|---|--:|" + "--:|" * len(METHODS) + "---|")
    for family, share in sorted(tally.winners):
        row = [
            tally.share(method, 100, lambda f, s, key=(family, share): (f, s) == key)
            for method in METHODS
        ]
        names, counts = np.unique(tally.winners[family, share], return_counts=True)
        told = "".join(f" {np.mean(r):.2f} |" for r in row)
        print(f"| {family} | {share:.0%} |{told} {names[counts.argmax()]} |")
    for method in METHODS:
        p = proportion(np.array(tally.share(method, 100, lambda f, s: f != "none")))
        print(f"m = 100: {method}: {p.value:.3f} ({p.low:.3f} to {p.high:.3f}, n = {p.n})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--load", type=Path, help="weights of the MNIST preset's net")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument(
        "--nulls", type=int, default=30, help="batches without a shift, split and m"
    )
    parser.add_argument("--full", action="store_true", help="10 splits, m up to 10,000")
    asked = parser.parse_args()
    splits, nulls, samples = asked.splits, asked.nulls, SAMPLES
    if asked.full:
        splits, samples = 10, (*SAMPLES, 10_000)
    torch.set_num_threads(1)
    subject = classifier("mnist", asked.load)
    right = subject.scored(subject.pool_unit).predicted == subject.pool.y
    print(
        f"{subject.about}: {right.mean():.2%} of {len(right)} held-out rows right, {splits} splits"
    )
    began = time.process_time()
    show(run(subject, splits, nulls, samples, seed=0), samples)
    print(f"{time.process_time() - began:.0f} CPU-s")


if __name__ == "__main__":
    main()
