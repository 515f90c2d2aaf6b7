"""The cells of suspicion and likelihood: what clean, corrupted and attacked rows weigh in them."""

from dataclasses import dataclass

import numpy as np

from models.statistics.arrays import FloatArray, IntArray
from models.statistics.ranks import rank_edges, score_weights, steady
from monitoring.counting.likelihood_cells import (
    CHANNEL,
    LIKELIHOOD_EDGES,
    SUSPICION_RANKS,
    likelihood_cells,
)

PRIOR = 5.0  # rows' worth of what all kinds share, in every kind's shares
UNSEEN = 1.0, 0.01  # of these as attacked rows lie: one row's worth, and 1 % of a kind, at most
SEEN = (0.5, 0.8)  # likelihoods above which an attack is seen
OFTEN, DEVIATIONS = 0.05, 2.0  # share of a kind above .8 from which its upper end is a kind, too
TRACE = 0.5  # rows' worth that every cell has of all rows together


@dataclass(frozen=True)
class ScoredRows:
    """Suspicion and likelihood of N rows."""

    suspicion: FloatArray  # (N,)
    likelihood: FloatArray  # (N,)

    def cells(self, edges: FloatArray) -> IntArray:
        """`(N,)`."""
        return likelihood_cells(self.suspicion, self.likelihood, edges)


@dataclass(frozen=True)
class LikelihoodCells:
    """Edges of the suspicion, and the arrays of the reference (`perturbation/...`)."""

    edges: tuple[float, ...]
    arrays: dict[str, FloatArray]

    @classmethod
    def fit(
        cls,
        stream: ScoredRows,
        clean: ScoredRows,
        corrupted: ScoredRows,
        kinds: IntArray,
        attacked: ScoredRows,
    ) -> "LikelihoodCells":
        """Cut the suspicion at ranks of the stream's reference, and count all kinds of rows.

        The null has a component for the reference, for held-out clean rows, and for every benign
        kind; p = (n_g + m prior_g) / (n + m), so that no cell is impossible, nor next to impossible
        because some hundred rows happened to miss it: a bet there would win by chance. A kind that
        often looks attacked has a second one, at the upper end of what so few rows leave open. The
        bets are mostly on rows that are likely or very likely attacked: small changes look clean.

        Args:
            stream: held-out rows that the stream is compared with.
            clean: held-out clean rows.
            corrupted: held-out rows, each of one benign kind.
            kinds: `(m,)`, which kind (and strength) each is of.
            attacked: held-out rows under attack.
        """
        edges = steady(rank_edges(stream.suspicion, SUSPICION_RANKS))
        cells = (len(edges) + 1) * (len(LIKELIHOOD_EDGES) + 1)

        def count(rows: ScoredRows) -> FloatArray:
            return np.bincount(rows.cells(edges), minlength=cells).astype(np.float64)

        everything, under_attack = count(clean) + count(corrupted) + TRACE, count(attacked)
        base = everything / everything.sum()
        bet = _shares(under_attack, base, TRACE)

        def null(counts: FloatArray | IntArray) -> FloatArray:
            unseen = min(UNSEEN[0], UNSEEN[1] * float(counts.sum()))
            return _shares(counts + unseen * bet, base, PRIOR - unseen)

        parts = [null(count(rows)) for rows in (stream, clean)]
        changed = corrupted.cells(edges)
        for kind in np.unique(kinds):
            counts = np.bincount(changed[kinds == kind], minlength=cells)
            parts.append(null(counts))
            parts += _upper_ends(parts[-1], int(counts.sum()))
        arrays = {
            f"{CHANNEL}/alpha": score_weights(stream.suspicion, edges),
            f"{CHANNEL}/kinds": np.stack(parts),
            f"{CHANNEL}/attacks": _bets(under_attack, base),
        }
        return cls(tuple(float(edge) for edge in edges), arrays)


def _bets(counts: FloatArray, base: FloatArray) -> FloatArray:
    """`(4, G)`: attacked rows, for most of a bet those that are seen in one of several ways.

    Seen are likelihoods above .5, above .8, above .8 of the most suspicious rows (noise and weak
    changes lie beside them), and the last two half and half.
    """
    whole = _shares(counts, base, 1.0)
    place, most_suspicious = _places(len(whole)), np.arange(len(whole)) <= len(LIKELIHOOD_EDGES)
    likely, very_likely = (place <= LIKELIHOOD_EDGES.index(limit) for limit in SEEN)
    shapes = []
    for mask in (likely, very_likely, very_likely & most_suspicious):
        seen = np.where(mask, whole, 0.0)
        shapes.append(seen / seen.sum())
    shapes.append((shapes[1] + shapes[2]) / 2)
    return 0.95 * np.stack(shapes) + 0.05 * whole


def _upper_ends(shares: FloatArray, rows: int) -> list[FloatArray]:
    """Shares `(G,)` of a kind that often looks attacked, with two deviations more where it does.

    p + 2 sqrt(p / n) in the cells above a likelihood of .8, normalised; nothing for other kinds.
    """
    seen = _places(len(shares)) <= LIKELIHOOD_EDGES.index(SEEN[-1])
    if shares[seen].sum() < OFTEN:
        return []
    upper = np.where(seen, shares + DEVIATIONS * np.sqrt(shares / rows), shares)
    return [upper / upper.sum()]


def _places(cells: int) -> IntArray:
    """`(G,)`: the place of each cell among the likelihoods, 0 the likeliest attacked."""
    return np.arange(cells) % (len(LIKELIHOOD_EDGES) + 1)


def _shares(counts: FloatArray | IntArray, prior: FloatArray, rows: float) -> FloatArray:
    """`(G,)` that sum to 1: counts with so many rows of the prior."""
    shares: FloatArray = (counts + rows * prior) / (counts.sum() + rows)
    return shares
