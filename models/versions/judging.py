"""How a version is judged, as plain data: the suite, and what an attacker may do.

It is part of recipes, manifests and reports. `models.attacks.threat.geometry_of` makes the set of
allowed changes from the record.
"""

from typing import Literal, get_args

import msgspec

Suite = Literal["quick", "full"]
SUITES: tuple[Suite, ...] = get_args(Suite)
Norm = Literal["linf", "l2"]
NORMS: tuple[Norm, ...] = get_args(Norm)
Reach = float | tuple[float, float]


class ThreatModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an attacker may do.

    Args:
        norm: `linf` or `l2`; for tables always a box with a bound per column.
        eps: size, in units of the [0, 1] range (of the training range of a column).
        columns: per column of a table, which share of `eps` it may move (0: it cannot be changed;
            a pair: how far down and up). Numeric columns not named move by 1.
    """

    norm: Norm = "linf"
    eps: float = 0.25
    columns: dict[str, Reach] = {}
