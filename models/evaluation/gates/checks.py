"""What a gate says: pass, fail or unknown, with the figures that it rests on.

Absence of evidence is neither a pass nor a failure: a figure that was not measured, or rests on too
few rows, is `unknown`, and a person decides.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import msgspec

Verdict = Literal["pass", "fail", "unknown"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


class Check(msgspec.Struct, frozen=True):
    """One gate's verdict.

    Args:
        name: of the gate.
        verdict: pass, fail or unknown.
        value, bound: what was measured and what it is compared with; None where not measured.
        detail: a sentence with the figures.
        n: rows it rests on; None where it rests on no rows.
        alpha: how often the test errs; None where it is no test.
    """

    name: str
    verdict: Verdict
    value: float | None
    bound: float | None
    detail: str
    n: int | None = None
    alpha: float | None = None


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much worse a challenger may be; accuracies as shares, times as ratios."""

    clean_margin: float = 0.03
    robust_margin: float = 0.06
    robust_floor: float = 0.5
    certified_margin: float = 0.06
    parity: float = 1e-4
    latency_ratio: float = 2.0
    size_ratio: float = 3.0


def verdict_of(ok: bool) -> Verdict:
    """Pass or fail of a figure that was measured."""
    return "pass" if ok else "fail"


def with_judged(planned: Sequence[Check], judged: Iterable[Check]) -> tuple[Check, ...]:
    """The planned checks, in their order, each replaced by what was judged of it.

    None drops out, and none comes in that was not planned.
    """
    by_name = {check.name: check for check in judged}
    unplanned = set(by_name) - {check.name for check in planned}
    assert not unplanned, unplanned
    return tuple(by_name.get(check.name, check) for check in planned)


def words_of(checks: Iterable[Check], verdict: Verdict) -> str:
    """The checks with that verdict as one sentence: `name: detail; name: detail`."""
    return "; ".join(f"{c.name}: {c.detail}" for c in checks if c.verdict == verdict)
