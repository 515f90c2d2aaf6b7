"""The bets: fixed ways in which a channel may drift, as tilts of its reference cells.

A bet is a density on the unit interval of ranks (score channels) or on the classes or categories
(class and category channels). Over the cells of a reference it becomes a vector ``tau`` of
likelihood ratios with ``sum_g w_g tau_g = 1``, ``w = alpha / sum(alpha)`` and every ``tau_g > 0``.
Where cells are parted by the predicted class, the same holds in every group of cells.
`monitoring.evidence.urn` plays all bets of a channel at once; the one that wins says what moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from monitoring.evidence.tilts import FloatArray as FloatArray
from monitoring.evidence.tilts import ShareTilts, TableTilts, Tilts

IntArray = npt.NDArray[np.int64]
Direction = Literal["higher", "lower", "tails", "middle", "share up", "share down"]

SLOPES = (0.25, 0.5, 1.0, 1.9)
POWERS = (0.1, 0.25, 0.5, 0.75)
STEPS = (
    (0.001, 40.0),
    (0.002, 20.0),
    (0.005, 4.0),
    (0.005, 10.0),
    (0.01, 2.0),
    (0.01, 4.0),
    (0.01, 10.0),
    (0.02, 3.0),
    (0.05, 2.0),
    (0.05, 5.0),
    (0.1, 2.0),
    (0.1, 5.0),
)
BENDS = (0.5, 1.0, 1.9)
MISSING = "missing"  # the label of a last cell that is no rank
SHARES = {1.5: "1.5 times", 2.0: "twice", 4.0: "four times", 0.5: "half", 0.2: "a fifth of"}
FRACTIONS = (0.01, 0.05, 0.2)  # of all requests, for what is rare in the reference
MOST_SHARE = 0.95  # that a bet gives to a cell: every tilt of the others stays > 0


class ChannelReferenceError(ValueError):
    """A channel's reference weights cannot carry an urn."""


@dataclass(frozen=True, eq=False)
class ChannelReference:
    """The cells of one channel and how much of the held-out reference lies in each.

    Args:
        name: the channel, "energy", "class", ...
        kind: "score" (cells are rank intervals; the last may be "missing"), "class" (one cell per
            class) or "category" (one cell per category of a column).
        alpha: (G,) float64 reference weights >= 0. Score: cell 0 holds the HIGHEST scores, cells
            follow in order of falling score, the sum is n + 1, and a cell whose two ranks coincide
            (small n) weighs 0. Others: the count plus a share of the one prior
            observation, so every weight is > 0.
        labels: (G,) text per cell: the class names, or "00", "01", ... for a score.
        groups: numbers of neighbouring cells that belong to one predicted class each, summing to
            G; empty: one group. Within a group cells are in the order above, and n_c requests
            sum to n_c + 1. Where one group ends with "missing" all do; the groups of a category
            have the same cells.

    Raises:
        ChannelReferenceError: the weights are not (G,), not finite or negative, fewer than two
            are positive, a class or a group weighs nothing, or labels or groups do not match the
            weights.
    """

    name: str
    kind: Literal["score", "class", "category"]
    alpha: FloatArray
    labels: tuple[str, ...]
    groups: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check the weights and keep a read-only float64 copy of them."""
        alpha = np.array(self.alpha, dtype=np.float64)
        where = f"reference of channel {self.name!r}"
        if self.kind not in ("score", "class", "category"):
            raise ChannelReferenceError(
                f"{where}: kind {self.kind!r}, expected 'score', 'class' or 'category'"
            )
        if alpha.ndim != 1 or not np.isfinite(alpha).all() or (alpha < 0).any():
            raise ChannelReferenceError(
                f"{where}: expected (G,) finite weights >= 0, got {alpha!r}"
            )
        if (alpha > 0).sum() < 2:
            raise ChannelReferenceError(f"{where}: expected two or more cells of positive weight")
        if self.kind != "score" and (alpha == 0).any():
            empty = self.labels[int(np.argmin(alpha))]
            raise ChannelReferenceError(
                f"{where}: {self.kind} {empty!r} weighs 0, add a prior such as 1/G"
            )
        if len(self.labels) != len(alpha):
            raise ChannelReferenceError(
                f"{where}: {len(self.labels)} labels for {len(alpha)} cells"
            )
        alpha.flags.writeable = False
        object.__setattr__(self, "alpha", alpha)
        if self.groups:
            self._check_groups(where)

    def _check_groups(self, where: str) -> None:
        cells = len(self.alpha)
        if self.kind == "class":
            raise ChannelReferenceError(f"{where}: the predicted class has no groups of classes")
        if min(self.groups) < 1 or sum(self.groups) != cells:
            raise ChannelReferenceError(
                f"{where}: groups of {self.groups} cells, expected {cells} in all"
            )
        if any(self.alpha[span].sum() == 0 for span in self.spans):
            raise ChannelReferenceError(f"{where}: a group weighs 0, expected its requests + 1")
        names = [self.labels[span] for span in self.spans]
        if self.kind == "category" and len(set(names)) > 1:
            raise ChannelReferenceError(f"{where}: expected the same categories in every group")
        missing = {labels[-1] == MISSING for labels in names}
        if len(missing) > 1 or (True in missing and min(self.groups) < 2):
            raise ChannelReferenceError(f"{where}: expected a cell {MISSING!r} in every group")

    @property
    def spans(self) -> tuple[slice, ...]:
        """The cells of every group; one span where there are no groups."""
        ends = np.cumsum(self.groups or (len(self.alpha),)).tolist()
        return tuple(slice(*pair) for pair in zip([0, *ends[:-1]], ends, strict=True))


@dataclass(frozen=True)
class Bet:
    """One way to drift: its direction, the same in words, and the cell whose share it is about."""

    direction: Direction
    words: str
    cell: int | None = None  # within its group, -1 the last; None: the bet is about ranks


RankCdf = Callable[[FloatArray], FloatArray]


def _slope(e: float) -> RankCdf:
    """Distribution function of the density 1 + e (u - 1/2)."""
    return lambda u: u + e * (u * u - u) / 2


def _power(kappa: float) -> RankCdf:
    """Distribution function of the density kappa u^(kappa - 1)."""

    def cdf(u: FloatArray) -> FloatArray:
        result: FloatArray = np.power(u, kappa)
        return result

    return cdf


def _step(q: float, height: float) -> RankCdf:
    """Distribution function of the density `height` below rank q, constant above it."""
    rest = (1 - q * height) / (1 - q)
    return lambda u: height * np.minimum(u, q) + rest * np.maximum(u - q, 0.0)


def _bend(e: float) -> RankCdf:
    """Distribution function of the density 1 + e/2 (4 |u - 1/2| - 1)."""

    def cdf(u: FloatArray) -> FloatArray:
        v = np.minimum(u, 1 - u)
        result: FloatArray = u + np.sign(0.5 - u) * e / 2 * (v - 2 * v * v)
        return result

    return cdf


def _mirror(cdf: RankCdf) -> RankCdf:
    """Distribution function of 1 - U where U has the given one."""
    return lambda u: 1 - cdf(1 - u)


def _higher_or_lower(cdf: RankCdf, share: str) -> list[tuple[Bet, RankCdf]]:
    """Return a bet on the upper end of the scores and its mirror on the lower end."""
    higher = Bet("higher", f"higher than the reference (the top {share})")
    lower = Bet("lower", f"lower than the reference (the bottom {share})")
    return [(higher, cdf), (lower, _mirror(cdf))]


def score_bets() -> list[tuple[Bet, RankCdf]]:
    """Return the 46 bets of a score channel, each with its distribution function F on [0, 1].

    u is the upper-tail rank: 0 at the highest score. The densities F' are 1 ± e (u - 1/2);
    kappa u^(kappa - 1) and its mirror; tail steps and mirrors; 1 ± e/2 (4 |u - 1/2| - 1).
    """
    bets: list[tuple[Bet, RankCdf]] = []
    for e in SLOPES:
        bets += _higher_or_lower(_slope(-e), f"half holds {50 + 12.5 * e:.0f} % of the requests")
    for kappa in POWERS:
        bets += _higher_or_lower(_power(kappa), f"1 % holds {100 * 0.01**kappa:.2g}x its share")
    for q, height in STEPS:
        bets += _higher_or_lower(_step(q, height), f"{100 * q:g} % holds {height:g}x its share")
    for e in BENDS:
        held = f"half holds {50 + 12.5 * e:.0f} % of the requests)"
        bets.append((Bet("tails", f"more at both ends (the outer {held}"), _bend(e)))
        bets.append((Bet("middle", f"more in the middle (the inner {held}"), _bend(-e)))
    return bets


def score_tilts(alpha: FloatArray) -> tuple[tuple[Bet, ...], FloatArray]:
    """Average every score bet exactly over the rank interval of each cell.

    tau_jg = (F_j(b_g) - F_j(a_g)) / (b_g - a_g), with [a_g, b_g] the ranks that cell g spans.

    Args:
        alpha: (G,) float64 reference weights, highest scores first; cells of weight 0 get tau 1.

    Returns:
        The J bets and tau, (J, G) float64 > 0, with tau @ (alpha / sum(alpha)) = 1.
    """
    edges = np.concatenate([[0.0], np.cumsum(alpha)]) / alpha.sum()
    edges[-1] = 1.0
    width = np.diff(edges)
    bets = score_bets()
    tau = np.ones((len(bets), len(alpha)))
    for row, (_, cdf) in zip(tau, bets, strict=True):
        np.divide(np.diff(cdf(edges)), width, out=row, where=alpha > 0)
    return tuple(bet for bet, _ in bets), _normalise_tilts(tau, alpha)


def class_tilts(alpha: FloatArray, labels: tuple[str, ...]) -> tuple[tuple[Bet, ...], ShareTilts]:
    """Multiply one class's share by 1.5, 2, 4, .5 or .2; the others keep their proportions.

    A multiple that would take more than 95 % of all requests is left out, so tau stays > 0.

    Args:
        alpha: (G,) float64 reference weights > 0, one per class.
        labels: (G,) class names.

    Returns:
        The J <= 5 G bets and their tilts.
    """
    shares = alpha / alpha.sum()
    factors, words = np.array(list(SHARES)), list(SHARES.values())
    room = (factors * shares[:, None] <= MOST_SHARE) | (factors < 1)
    cell, way = room.nonzero()
    inside, share = factors[way], shares[cell]
    # Sums of the others before and after: 1 - share would lose the digits of small ones.
    before, after = (np.cumsum(np.append(0.0, side[:-1])) for side in (shares, shares[::-1]))
    others = (before + after[::-1])[cell]
    outside = (1 - inside * share) / others
    fair = inside * share + outside * others  # 1, but for rounding
    bets = tuple(
        Bet(
            "share up" if factors[w] > 1 else "share down",
            f"class {labels[c]} at {words[w]} its share",
            c,
        )
        for c, w in zip(cell.tolist(), way.tolist(), strict=True)
    )
    return bets, ShareTilts(len(alpha), cell, inside / fair, outside / fair)


def share_tilts(
    groups: Sequence[FloatArray], names: Mapping[int, str], *, rare: bool = False
) -> tuple[tuple[Bet, ...], FloatArray]:
    """Change the share of each named cell in every group; the others keep their proportions.

    A group in which a multiple would take more than 95 % of its requests is not bet on (tau = 1);
    nor is one that has a fraction already.

    Args:
        groups: (G_c,) float64 reference weights of each group, those of the named cells > 0.
        names: what to call a cell, by its number within a group.
        rare: bet also that a cell takes 1, 5 or 20 % of all requests, where that is more than
            four times its share of all groups: no multiple of almost nothing is worth a bet.

    Returns:
        The bets and tau, (J, sum of G_c) float64 > 0, of mean 1 in every group.
    """
    bets: list[Bet] = []
    rows: list[FloatArray] = []
    sizes = np.array([len(alpha) for alpha in groups])
    ends, totals = np.cumsum(sizes), np.array([alpha.sum() for alpha in groups])
    for cell, name in names.items():
        held = np.array([alpha[cell] for alpha in groups])
        shares = held / totals
        ways = [(f"{words} its share", factor + 0 * shares) for factor, words in SHARES.items()]
        if rare:
            few = [q for q in FRACTIONS if q * totals.sum() / held.sum() > max(SHARES)]
            ways += [(f"{100 * q:g} % of the requests", q / shares) for q in few]
        for words, factors in ways:
            direction: Direction = "share up" if factors.max() > 1 else "share down"
            if direction == "share up":
                factors = np.where(factors * shares > MOST_SHARE, 1.0, np.maximum(factors, 1.0))
            if (factors == 1).all():
                continue
            row = np.repeat((1 - factors * shares) / (1 - shares), sizes)
            row[(ends if cell < 0 else ends - sizes) + cell] = factors
            rows.append(row)
            bets.append(Bet(direction, f"{name} at {words}", cell))
    tau = np.split(np.array(rows), ends[:-1], axis=1)
    fair = list(map(_normalise_tilts, tau, groups))
    return tuple(bets), np.concatenate(fair, axis=1)


def fit_tilts(reference: ChannelReference) -> tuple[tuple[Bet, ...], Tilts]:
    """Return the bets of a channel and their tilts, fixed from its reference.

    >>> alpha = np.full(20, 5.0)
    >>> bets, found = fit_tilts(ChannelReference("energy", "score", alpha, ("",) * 20))
    >>> tau = np.array([found.row(bet) for bet in range(len(bets))])
    >>> len(bets), bool(np.allclose(tau @ alpha / alpha.sum(), 1)), bool((tau > 0).all())
    (46, True, True)
    """
    alpha, labels = reference.alpha, reference.labels
    if reference.kind == "class":
        return class_tilts(alpha, labels)
    groups = [alpha[span] for span in reference.spans]
    sizes = tuple(map(len, groups))
    if reference.kind == "category":
        categories = labels[reference.spans[0]]
        names = {cell: f"{reference.name}: {label}" for cell, label in enumerate(categories)}
        bets, tau = share_tilts(groups, names, rare=True)
        return bets, TableTilts(tau, sizes)
    parts = [score_tilts(group) for group in groups]
    bets, tau = parts[0][0], np.concatenate([tau for _, tau in parts], axis=1)
    if labels[-1] != MISSING:
        return bets, TableTilts(tau, sizes)
    more, gone = share_tilts(groups, {-1: "missing values"}, rare=True)
    return bets + more, TableTilts(np.concatenate([tau, gone]), sizes)


def spread_rows(
    reference: ChannelReference, bets: Sequence[Bet], tilts: Tilts
) -> tuple[FloatArray | None, IntArray]:
    """Return what a request in each cell is worth, where bets that are worth the same share a row.

    Bets on one cell's share differ by a factor and a constant, so the indicator of the cell stands
    for all of them. A bet on ranks is worth ln tau. Both are centred in every group: how many
    requests a group gets is not their concern.

    Returns:
        (S, G) float64, or None for the indicators of all classes, which are one number each; and
        the row (J,) of every bet.
    """
    if reference.kind == "score":
        rows: FloatArray = np.log([tilts.row(bet) for bet in range(len(bets))])
        row_of = np.arange(len(bets))
    else:
        row_of = np.array([bet.cell for bet in bets], dtype=np.int64)
        if reference.kind == "class":
            return None, row_of
        rows = np.tile(np.eye(reference.spans[0].stop), len(reference.spans))
    for span in reference.spans:
        weights = reference.alpha[span] / reference.alpha[span].sum()
        rows[:, span] -= (rows[:, span] @ weights)[:, None]
    return rows, row_of


def _normalise_tilts(tau: FloatArray, alpha: FloatArray) -> FloatArray:
    """Remove the rounding error of sum_g w_g tau_g = 1."""
    assert (tau > 0).all(), "every tilt must be positive in every cell"
    result: FloatArray = tau / (tau @ alpha / alpha.sum())[:, None]
    return result
