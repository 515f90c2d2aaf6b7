"""CPU time of one urn update: python benchmarks/urn_update.py

Prints microseconds per channel per piece, for a score channel of 72 cells, one of 250 cells in ten
groups, and a class channel of 10 classes: `interval`: all copies with all that one interval of a
piece costs (phi, too), `update` of all copies, the `exact` copy alone, and a plain version of
the latter that takes every logarithm and every gammaln anew, measured in the same run on the same
pieces. Trust the ratios more than the times.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from scipy.special import gammaln, logsumexp

from monitoring.evidence.bets import ChannelReference, FloatArray, IntArray, fit_tilts
from monitoring.evidence.channel_evidence import ChannelEvidence
from monitoring.evidence.urn import LAGS

PIECES = 1000
ROUNDS = 5


class PlainUrn:
    """The formulas of methods.md, section 1, as they are written."""

    def __init__(self, reference: ChannelReference) -> None:
        """Start with an empty R and the urn of the reference."""
        self.alpha: FloatArray = reference.alpha.copy()
        self.spans = reference.spans
        _, found = fit_tilts(reference)
        self.tau = np.array([found.row(bet) for bet in range(len(found))])
        self.ln_r = np.full(len(self.tau), -np.inf)

    def update(self, d: IntArray) -> None:
        """Weigh one piece and absorb it."""
        alpha = self.alpha
        ln_e = (d * np.log(self.tau)).sum(axis=1)
        ln_e += (d * np.log(alpha)).sum() - (gammaln(alpha + d) - gammaln(alpha)).sum()
        for span in self.spans:
            m, total = d[span].sum(), alpha[span].sum()
            ln_e -= m * np.log((alpha[span] * self.tau[:, span]).sum(axis=1))
            ln_e += gammaln(total + m) - gammaln(total)
        self.ln_r = np.logaddexp(self.ln_r, np.log(d.sum())) + ln_e
        self.alpha = alpha + d

    @property
    def log10_r(self) -> float:
        """log10 of max(R, 1)."""
        mean = logsumexp(self.ln_r) - np.log(len(self.ln_r))
        return max(0.0, float(mean / np.log(10)))


def microseconds(update: Callable[[IntArray], None], pieces: IntArray) -> float:
    """Return the CPU time per piece in microseconds."""
    start = time.process_time()
    for piece in pieces:
        update(piece)
    return (time.process_time() - start) / len(pieces) * 1e6


def _interval(evidence: ChannelEvidence) -> Callable[[IntArray], None]:
    """All that one interval of a single piece costs: the bets, the urn, and learning phi."""

    def take(piece: IntArray) -> None:
        evidence.update(piece)
        evidence.observe(piece)

    return take


def compare(reference: ChannelReference, m: int) -> tuple[float, ...]:
    """Return the best CPU microseconds per piece, in the order of the table; interleaved."""
    share = reference.alpha / reference.alpha.sum()
    pieces = np.random.default_rng(0).multinomial(m, share, size=PIECES).astype(np.int64)
    rounds = []
    for _ in range(ROUNDS):
        evidence, formula = ChannelEvidence(reference, lags=()), PlainUrn(reference)
        lagged, learning = (ChannelEvidence(reference, eta="auto", lags=LAGS) for _ in range(2))
        updates = (_interval(learning), lagged.update, evidence.update, formula.update)
        rounds.append([microseconds(update, pieces) for update in updates])
        if not np.isclose(evidence.log10_r, formula.log10_r, rtol=1e-6, atol=1e-6):
            raise SystemExit(f"evidence differs: {evidence.log10_r} and {formula.log10_r}")
    return tuple(map(min, zip(*rounds, strict=True)))


def main() -> None:
    """Print one line per kind of channel and size of piece."""
    cuts = np.round(np.linspace(0, 1, 73) * 5001)
    labels = tuple(f"{cell:02}" for cell in range(72))
    score = ChannelReference("energy", "score", np.diff(cuts), labels)
    classes = ChannelReference("class", "class", np.full(10, 500.1), tuple("0123456789"))
    print(
        f"{'channel':8}{'cells':>6}{'bets':>6}{'m':>5}{'interval':>9}{'update':>8}{'exact':>8}{'plain':>8}"
    )
    parts = np.diff(np.round(np.linspace(0, 1, 26) * 501))
    grouped = ChannelReference("grouped", "score", np.tile(parts, 10), ("",) * 250, (25,) * 10)
    for reference in (score, grouped, classes):
        for m in (1, 18, 250):
            figures = compare(reference, m)
            cells, bets = len(reference.alpha), len(fit_tilts(reference)[0])
            print(
                f"{reference.name:8}{cells:>6}{bets:>6}{m:>5}"
                + "".join(f"{us:>{8 + (k == 0)}.1f}" for k, us in enumerate(figures))
            )


if __name__ == "__main__":
    main()
