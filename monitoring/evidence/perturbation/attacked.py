"""Evidence that requests are attacked, which no benign kind raises: Shiryaev-Roberts over a mix.

The null is composite: every request is of some known kind (clean, or a benign corruption), in
unknown shares. Against it stands what the mix seen so far would give if a share lam were attacked.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from monitoring.evidence.bets import FloatArray, IntArray
from monitoring.evidence.perturbation.mixture import most_likely_mix

SHARES = (0.02, 0.05, 0.15, 0.5)  # of the traffic that may be attacked: the bets
BLOCK = 50  # requests that are weighed at once, at least
KEPT = 6  # blocks for which every beginning is kept; then every second, every fourth, ...
MEMORY = 5000.0  # requests by which the mix seen so far is known
FIRST = 200.0  # requests' worth of the reference that it begins with


class BeginningState(msgspec.Struct, frozen=True):
    """A request from which on traffic may be attacked: its block, and what came since."""

    block: int
    weight: int
    counts: list[int]
    ln_q: list[float]  # of the bets


class AttackedState(msgspec.Struct, frozen=True):
    """The state of an `AttackedEvidence`."""

    requests: int
    blocks: int
    pending: list[int]
    seen: list[float]
    beginnings: list[BeginningState]
    crossed_at: int | None
    peak: float


class AttackedEvidence:
    """R = sum over beginnings s of m_s mean_j E_sj, an alarm when R >= c.

    E_sj = prod q_jt(g_t) / max_w prod p_w(g_t) over the requests t since s, p_w the mix of the
    null's kinds with shares w, and q_jt = (1 - lam_j) p_(w of the past) + lam_j a_j: what is bet
    was known before the request, and the null is given the shares that suit it best afterwards
    (universal inference, Wasserman et al. 2020). So for traffic that is some mix of the kinds each
    E is at most a martingale of mean 1, and P(R >= c within T requests) <= T / c; requests must be
    independent, and the kinds' shares of the cells those that were measured on held-out rows. m_s
    are the requests of the block that begins at s. Beginnings are forgotten on a plan that is
    fixed beforehand (the older, the sparser), which only makes R smaller.

    An alarm stays on until `clear_after` requests brought no new crossing; at a crossing the
    evidence begins anew.

    Args:
        kinds: `(K, G)` shares of the cells per kind of the null, clean ones first.
        attacks: `(A, G)` shares of the cells of attacked rows, each of which is bet on.
        c: requests > 1 per false alarm at least.
        clear_after: requests without a new crossing that end an alarm.

    >>> kinds, attack = np.array([[0.9, 0.1], [0.7, 0.3]]), np.array([[0.1, 0.9]])
    >>> evidence = AttackedEvidence(kinds, attack, c=1e4)
    >>> evidence.update(np.array([180, 20])), evidence.alarm
    (False, False)
    >>> evidence.update(np.array([20, 80])), evidence.alarm
    (True, True)
    """

    def __init__(
        self, kinds: FloatArray, attacks: FloatArray, *, c: float, clear_after: int = 2000
    ) -> None:
        self.c, self.clear_after = c, clear_after
        self._kinds, self._attacks = kinds, attacks
        self._null = np.concatenate([kinds, attacks])  # by which the past is explained
        self.requests, self._blocks = 0, 0
        self._pending: IntArray = np.zeros(kinds.shape[1], dtype=np.int64)
        self._seen = FIRST * kinds[0]
        self._past = np.full((1, len(self._null)), 1 / len(self._null))
        self._crossed_at: int | None = None
        self._peak = 0.0
        self._restart()

    def _restart(self) -> None:
        self._counts = np.zeros((0, self._kinds.shape[1]))
        self._ln_q = np.zeros((0, len(self._attacks) * len(SHARES)))
        self._born = np.zeros(0, dtype=np.int64)
        self._weight = np.zeros(0, dtype=np.int64)
        self._mixes = np.zeros((0, len(self._kinds)))
        self._ln_r = -np.inf

    @property
    def threshold_log10(self) -> float:
        """log10 c."""
        return float(np.log10(self.c))

    @property
    def alarm(self) -> bool:
        """Whether an alarm is on."""
        return self._crossed_at is not None

    @property
    def log10_r(self) -> float:
        """log10 max(R, 1); while an alarm is on at least what raised it."""
        now = max(0.0, float(self._ln_r / np.log(10)))
        return max(now, self._peak)

    def update(self, increments: IntArray) -> bool:
        """Weigh counts `(G,)` of an interval; whether they raised an alarm, or renewed one."""
        self._pending = self._pending + increments
        self.requests += int(increments.sum())
        if self._pending.sum() < BLOCK:
            return False
        block, self._pending = self._pending, np.zeros_like(self._pending)
        self._weigh(block)
        crossed = self._ln_r >= np.log(self.c)
        if crossed:
            self._peak = max(0.0, float(self._ln_r / np.log(10)))
            self._crossed_at = self.requests
            self._restart()
        elif self._crossed_at is not None and self.requests - self._crossed_at >= self.clear_after:
            self._crossed_at, self._peak = None, 0.0
        return bool(crossed)

    def _weigh(self, block: IntArray) -> None:
        self._counts = np.concatenate([self._counts, np.zeros((1, len(block)))]) + block
        bets = np.zeros((1, self._ln_q.shape[1]))
        self._ln_q = np.concatenate([self._ln_q, bets]) + self._bet() @ block
        self._born = np.append(self._born, self._blocks)
        self._weight = np.append(self._weight, int(block.sum()))
        fresh = np.full((1, len(self._kinds)), 1 / len(self._kinds))
        self._mixes = np.concatenate([self._mixes, fresh])
        self._blocks += 1
        self._forget()
        most, self._mixes = most_likely_mix(self._counts, self._kinds, start=self._mixes)
        ln_e = self._ln_q - most[:, None] + np.log(self._weight)[:, None]
        self._ln_r = float(np.logaddexp.reduce(ln_e, axis=None) - np.log(bets.size))
        self._seen = self._seen * np.exp(-block.sum() / MEMORY) + block

    def _bet(self) -> FloatArray:
        """ln q `(J, G)` of every bet, from what was seen before."""
        _, self._past = most_likely_mix(self._seen[None], self._null, start=self._past)
        benign = self._past[0, : len(self._kinds)]
        usual = (benign / benign.sum()) @ self._kinds
        lam = np.asarray(SHARES)[:, None, None]
        bets: FloatArray = np.log((1 - lam) * usual + lam * self._attacks)
        return bets.reshape(-1, len(usual))

    def _forget(self) -> None:
        """Keep a beginning at block b for KEPT 2^v blocks, with 2^v the power of two in b."""
        age = self._blocks - self._born
        power = np.where(self._born == 0, 1 << 20, self._born & -self._born)
        keep = age <= KEPT * power
        self._counts, self._ln_q = self._counts[keep], self._ln_q[keep]
        self._born, self._weight = self._born[keep], self._weight[keep]
        self._mixes = self._mixes[keep]

    def snapshot(self) -> AttackedState:
        """Return the state as a record."""
        rows = zip(
            self._born.tolist(), self._weight.tolist(), self._counts.astype(np.int64).tolist(),
            self._ln_q.tolist(), strict=True,
        )  # fmt: skip
        return AttackedState(
            self.requests, self._blocks, self._pending.tolist(), self._seen.tolist(),
            [BeginningState(*row) for row in rows], self._crossed_at, self._peak,
        )  # fmt: skip

    def load(self, state: AttackedState) -> None:
        """Take over a snapshot. Raises ValueError where it is of other cells."""
        cells, bets = self._kinds.shape[1], self._ln_q.shape[1]
        rows: list[Sequence[float]] = [state.pending, state.seen]
        rows += [each.counts for each in state.beginnings]
        other = any(len(each.ln_q) != bets for each in state.beginnings)
        if other or any(len(row) != cells for row in rows):
            raise ValueError(f"counts of other cells or bets, expected {cells} and {bets}")
        self.requests, self._blocks = state.requests, state.blocks
        self._pending = np.asarray(state.pending, dtype=np.int64)
        self._born = np.array([each.block for each in state.beginnings], dtype=np.int64)
        self._weight = np.array([each.weight for each in state.beginnings], dtype=np.int64)
        self._seen = np.asarray(state.seen, dtype=np.float64)
        self._counts = np.array(rows[2:], dtype=np.float64).reshape(-1, cells)
        self._ln_q = np.array([b.ln_q for b in state.beginnings], dtype=np.float64).reshape(
            -1, bets
        )
        kinds = len(self._kinds)
        self._mixes = np.full((len(self._born), kinds), 1 / kinds)
        self._crossed_at, self._peak = state.crossed_at, state.peak
