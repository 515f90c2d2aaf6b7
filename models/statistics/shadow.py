"""Two versions on the same requests: when is one shown to be worse, and when to be no worse?

Both rules may be looked at after every label (Ville): each is an e-value, and where its claim is
wrong it ever reaches `THRESHOLD` with a probability of at most 1 / THRESHOLD = 5 %.
"""

from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from models.statistics.arrays import Bools, FloatArray

Verdict = Literal["worse", "no worse", "not known"]
THRESHOLD = 20.0
MARGIN = 0.03
BETS = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.7])


def log_worse(champion_only: npt.ArrayLike, challenger_only: npt.ArrayLike) -> FloatArray:
    """ln E of "the challenger is worse", of requests on which just one of the two is right.

        E = 2^(n+1) B(L+1, W+1) (1 - I_.5(L+1, W+1)),  n = L + W

    It is the likelihood of p = P(the champion is the one) against p = 1/2, p uniform on [1/2, 1].

    Args:
        champion_only: L, any shape.
        challenger_only: W, of the same shape.

    >>> np.exp(log_worse([0, 5, 8], [0, 5, 0])).round(2)
    array([ 1.  ,  0.37, 56.78])
    """
    from scipy import special  # 16 MiB, which a worker that tells of shadows never needs

    lost, won = np.asarray(champion_only, np.float64), np.asarray(challenger_only, np.float64)
    with np.errstate(divide="ignore"):  # a chance that is too small for a number: ln 0
        above = np.log(special.betainc(won + 1, lost + 1, 0.5))
    return np.asarray((lost + won + 1) * np.log(2) + special.betaln(lost + 1, won + 1) + above)


def log_no_worse(
    champion_only: npt.ArrayLike,
    challenger_only: npt.ArrayLike,
    alike: npt.ArrayLike,
    margin: float = MARGIN,
) -> FloatArray:
    """ln of the mean over lambda of prod (1 + lambda (D + margin)), D in {-1, 0, 1}.

    An e-value of "the challenger is less than `margin` worse": D is 1 where only the challenger is
    right, and its mean is at most -margin where that is wrong. Without labels a difference is at
    most a loss, so requests on which the two disagree are given as `champion_only`.

    Args:
        champion_only, challenger_only, alike: requests with D = -1, 1 and 0, of the same shape.
        margin: of accuracy, in (0, 1).

    >>> round(float(np.exp(log_no_worse(0, 0, 200))), 2)
    13.72
    """
    counts = np.stack(np.broadcast_arrays(champion_only, challenger_only, alike), -1)
    growth = np.log1p(BETS[:, None] * (np.array([-1.0, 1.0, 0.0]) + margin))
    return np.asarray(np.logaddexp.reduce(counts @ growth.T, axis=-1) - np.log(len(BETS)))


class ShadowComparison(msgspec.Struct, frozen=True):
    """Labelled requests that both versions answered, up to the first verdict.

    Args:
        champion_only, challenger_only: requests on which just this one was right.
        alike: on which both were right or both wrong.
        verdict: `worse` or `no worse` as soon as that is shown; it stays.
        margin: of accuracy, by which `no worse` may err.
    """

    champion_only: int = 0
    challenger_only: int = 0
    alike: int = 0
    verdict: Verdict = "not known"
    margin: float = MARGIN

    @property
    def labels(self) -> int:
        """How many labelled requests were compared."""
        return self.champion_only + self.challenger_only + self.alike

    def update(self, champion_right: Bools, challenger_right: Bools) -> "ShadowComparison":
        """Add requests in the order of their labels.

        Args:
            champion_right: `(N,)` whether the champion's answer was right.
            challenger_right: `(N,)` whether the challenger's was.
        """
        if self.verdict != "not known" or not len(champion_right):
            return self
        lost = self.champion_only + np.cumsum(champion_right & ~challenger_right)
        won = self.challenger_only + np.cumsum(challenger_right & ~champion_right)
        alike = self.alike + np.cumsum(champion_right == challenger_right)
        worse = log_worse(lost, won) >= np.log(THRESHOLD)
        fine = log_no_worse(lost, won, alike, self.margin) >= np.log(THRESHOLD)
        shown = np.flatnonzero(worse | fine)
        last = int(shown[0]) if len(shown) else -1
        verdict: Verdict = "not known"
        if len(shown):
            verdict = "worse" if worse[last] else "no worse"
        return msgspec.structs.replace(
            self,
            champion_only=int(lost[last]),
            challenger_only=int(won[last]),
            alike=int(alike[last]),
            verdict=verdict,
        )


class Agreement(msgspec.Struct, frozen=True):
    """How often two versions answered differently, whatever was right.

    The loss cannot exceed the disagreement. So few disagreements show without any label that the
    challenger is less than `margin` worse.
    """

    requests: int = 0
    disagreed: int = 0
    shown: bool = False
    margin: float = MARGIN

    def update(self, disagreed: Bools) -> "Agreement":
        """Add `(N,)` requests in their order."""
        if not len(disagreed):
            return self
        different = self.disagreed + np.cumsum(disagreed)
        requests = self.requests + 1 + np.arange(len(disagreed))
        log_e = log_no_worse(different, np.zeros_like(different), requests - different, self.margin)
        return msgspec.structs.replace(
            self,
            requests=int(requests[-1]),
            disagreed=int(different[-1]),
            shown=self.shown or bool((log_e >= np.log(THRESHOLD)).any()),
        )


class Shadowed(msgspec.Struct, frozen=True):
    """What is known of the challenger from the requests that both versions answered.

    Args:
        comparison: of labelled requests.
        agreement: of all requests.
        champion_seconds, challenger_seconds: median processor time of a run of one row.
        step: in which they were compared: `shadow`, `canary` or `probation`.
    """

    comparison: ShadowComparison
    agreement: Agreement
    champion_seconds: float | None
    challenger_seconds: float | None
    step: str = ""

    @property
    def verdict(self) -> Verdict:
        """The verdict of the labels; as long as there are none, that of the agreement.

        So one rule decides, whichever it is, and 5 % bounds the chance that it errs, if the time
        at which the first label comes does not depend on what it says.
        """
        if not self.comparison.labels and self.agreement.shown:
            return "no worse"
        return self.comparison.verdict

    def words(self) -> str:
        """Say how the challenger stands, with the figures."""
        pairs, agreement = self.comparison, self.agreement
        verdict = {
            "worse": "the challenger is worse than the champion on the same requests",
            "no worse": f"the challenger is less than {pairs.margin:.0%} worse",
            "not known": "whether the challenger is worse is not known yet",
        }[self.verdict]
        labelled = (
            f"{pairs.labels} labelled: only the champion right {pairs.champion_only}, only the "
            f"challenger {pairs.challenger_only}"
        )
        return (
            f"{verdict}: of {agreement.requests} live requests {agreement.disagreed} answered "
            f"differently; {labelled}"
        )


def decided(shadowed: Shadowed | None) -> Shadowed | None:
    """What a shadow has shown, once there is a verdict; None before."""
    return None if shadowed is None or shadowed.verdict == "not known" else shadowed
