"""Harm: evidence, label by label, that answers are right less often than a fixed floor.

Drift says "the inputs moved". Harm says "the answers got worse". With the floor a, q0 = 1 - a and
alternatives q_j whose odds are 1.25 to 10 times those of q0:

    R_j <- (1 + R_j) (q_j / q0 if the answer was wrong else (1 - q_j) / (1 - q0))
    R = mean_j R_j, from c / 10,000 on;   alarm when R >= c

This is the Shiryaev-Roberts recursion against a floor that was fixed before the first label. For
any sequence of answers whose chance of being right stays at or above the floor, varying or not,
R - T is a supermartingale over labels T. So P(an alarm within T labels) <= T / c + 1 / 10,000, and
the evidence may be looked at after every label. A window that is looked at again and again promises
nothing. The start at c / 10,000 costs these 1 / 10,000 and sees a fall right after a promotion some
twenty labels earlier.

The promise needs labels that do not depend on whether the answer was right
(`monitoring.evidence.labels.labelling`, `monitoring.evidence.labels.thumbs_up`).

Source: Pollak (1985), "Optimal detection of a change in distribution"; Ramdas et al. (2023),
"Game-theoretic statistics", section on e-detectors.
"""

import math

import msgspec
import numpy as np
import numpy.typing as npt

from models.statistics.arrays import Bools

Floats = npt.NDArray[np.float64]
TOLERANCE = 0.01  # below the expected accuracy that is no harm yet
ODDS = (1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0)  # of a wrong answer, against those at the floor
HEAD_START = 1e-4  # of c, where R begins at the first label
CLEAR_AFTER = 1000  # labels without renewed evidence, which end an alarm
MOST = 1e250  # evidence is cut here; less evidence never breaks the promise


class HarmAlarm(msgspec.Struct, frozen=True):
    """An alarm as it was raised.

    Args:
        labels: labels weighed in all when it was raised.
        log10_r: log10 of the evidence then.
        since: time of the request from which on answers got worse, an estimate, in epoch seconds.
        right, of: right answers among the labels since then.
    """

    labels: int
    log10_r: float
    since: float
    right: int
    of: int


class HarmEvidence(msgspec.Struct, frozen=True):
    """The whole state: plain numbers, one per alternative where there are several.

    Args:
        labels: labels weighed.
        r: R_j, from 0 to `MOST`.
        cusum: ln of the evidence of each alternative since its best start, >= 0.
        since: request times (epoch seconds) at which these starts were.
        right, of: right answers and labels since then.
        peak: the highest R since the last crossing, which is shown while an alarm is on.
        crossed_at: label at which R last reached c.
        alarm: the alarm that is on.
    """

    labels: int = 0
    r: tuple[float, ...] = (0.0,) * len(ODDS)
    cusum: tuple[float, ...] = (0.0,) * len(ODDS)
    since: tuple[float, ...] = (0.0,) * len(ODDS)
    right: tuple[int, ...] = (0,) * len(ODDS)
    of: tuple[int, ...] = (0,) * len(ODDS)
    peak: float = 0.0
    crossed_at: int = 0
    alarm: HarmAlarm | None = None

    @property
    def log10_r(self) -> float:
        """log10 of max(R, 1); while an alarm is on, of the highest R since the last crossing."""
        now = max(float(np.mean(self.r)), self.peak if self.alarm else 0.0)
        return math.log10(max(now, 1.0))


def floor_of(value: float, low: float, tolerance: float = TOLERANCE) -> float:
    """The floor: the tolerance under the expected accuracy, or its interval's end if that is lower.

    Args:
        value: expected accuracy in [0, 1]; NaN where it is not known.
        low: lower end of its 95 % interval.
        tolerance: what may be lost without harm, >= 0.

    Returns:
        NaN where the expected accuracy is not known: nothing can fall below it.

    >>> round(floor_of(0.97, 0.965), 3), floor_of(0.97, 0.94)
    (0.96, 0.94)
    """
    return float(np.minimum(value - tolerance, low))


def factors(floor: float) -> Floats:
    """What a label multiplies each R_j by: `(2, J)`, row 0 for a right answer, row 1 for a wrong.

    Args:
        floor: in (0, 1).

    >>> right, wrong = factors(0.9)
    >>> [round(float(v), 3) for v in (wrong[2], right[2])]  # twice the odds: 2/11 in place of 1/10
    [1.818, 0.909]
    """
    assert 0 < floor < 1
    q0 = 1 - floor
    odds = q0 / floor * np.array(ODDS)
    q = odds / (1 + odds)
    return np.stack([(1 - q) / (1 - q0), q / q0])


def advance(r: Floats, wrong: Bools, factor: Floats) -> Floats:
    """R after one more label of each of S streams.

    Args:
        r: `(S, J)` evidence so far.
        wrong: `(S,)` whether the answer was wrong.
        factor: `(2, J)` as of `factors`.
    """
    assert r.shape == (len(wrong), factor.shape[1])
    ahead: Floats = np.minimum((1 + r) * factor[wrong.astype(np.intp)], MOST)
    return ahead


def can_judge(floor: float) -> bool:
    """Whether anything can fall below the floor; without figures, or at 0, nothing can."""
    return 0 < floor < 1


def update(
    evidence: HarmEvidence, right: Bools, at: Floats, *, floor: float, c: float = 1e6
) -> HarmEvidence:
    """Weigh labels, one after the other.

    R starts again from 0 when it reaches c, so that the expected number of alarms within T labels
    is at most T / c + 1 / 10,000. An alarm ends after 1000 labels without such a crossing.

    Args:
        evidence: so far.
        right: `(n,)` whether the answer was right, in the order in which the labels came.
        at: `(n,)` times of the requests in epoch seconds.
        floor: as of `floor_of`; where it `can_judge` nothing, nothing changes.
        c: labels > 1 per false alarm at least, in the mean.

    >>> fine = update(HarmEvidence(), np.ones(500, bool), np.arange(500.0), floor=0.96)
    >>> fine.log10_r < 2, fine.alarm is None
    (True, True)
    >>> right, at = np.arange(60) % 4 > 0, np.arange(500.0, 560.0)  # from now on 75 %
    >>> worse = update(fine, right, at, floor=0.96)
    >>> worse.alarm.labels, worse.alarm.since, worse.alarm.right, worse.alarm.of
    (545, 500.0, 33, 45)
    """
    assert right.shape == at.shape
    if not can_judge(floor):
        return evidence
    factor = factors(floor)
    for answer, request_at in zip(right.tolist(), at.tolist(), strict=True):
        evidence = _weigh(evidence, answer, request_at, factor, c)
    return evidence


def _weigh(before: HarmEvidence, right: bool, at: float, factor: Floats, c: float) -> HarmEvidence:
    r = np.array(before.r) if before.labels else np.full(len(ODDS), HEAD_START * c)
    r = advance(r[None], np.array([not right]), factor)[0]
    cusum = np.array(before.cusum)
    begins = cusum == 0
    since = np.where(begins, at, before.since)
    rights = np.where(begins, 0, before.right) + right
    of = np.where(begins, 0, before.of) + 1
    cusum = np.clip(cusum + np.log(factor[int(not right)]), 0.0, math.log(MOST))
    labels, mean, leader = before.labels + 1, float(r.mean()), int(r.argmax())
    peak, crossed_at, alarm = max(before.peak, mean), before.crossed_at, before.alarm
    if mean >= c:
        alarm = alarm or HarmAlarm(
            labels, math.log10(mean), float(since[leader]), int(rights[leader]), int(of[leader])
        )
        r, peak, crossed_at = np.zeros_like(r), mean, labels
    elif alarm is None or labels - crossed_at >= CLEAR_AFTER:
        alarm, peak = None, 0.0
    return HarmEvidence(
        labels, _plain(r), _plain(cusum), _plain(since),
        tuple(rights.tolist()), tuple(of.tolist()), peak, crossed_at, alarm,
    )  # fmt: skip


def _plain(values: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def promise(floor: float, c: float) -> str:
    """What the threshold promises, with its condition, in words.

    >>> print(promise(0.96, 1e6))
    if every answer is right with a chance of at least 96.0%, varying or not, and labels do \
not depend on that: at most one false alarm in 1,000,000 labels, in the mean
    """
    if not can_judge(floor):
        return "none: the version has no held-out accuracy that live accuracy could fall below"
    return (
        f"if every answer is right with a chance of at least {floor:.1%}, varying or not, "
        "and labels do not depend on that: "
        f"at most one false alarm in {c:,.0f} labels, in the mean"
    )
