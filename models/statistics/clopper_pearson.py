"""Clopper and Pearson's interval of a share."""

import math


def clopper_pearson(right: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share, also where it rests on an effective number of rows.

    Args:
        right: rows that are right, which need be no whole number; clipped to 0 to n.
        n: rows in all; with none of them nothing is known.
        level: of the interval, of both sides together.

    Source: Clopper & Pearson (1934); Korn & Graubard (1998) for numbers that are not whole.

    >>> low, high = clopper_pearson(3, 100)
    >>> round(low, 3), round(high, 3)
    (0.006, 0.085)
    >>> clopper_pearson(0, 0)
    (0.0, 1.0)
    """
    from scipy.special import betaincinv  # 16 MiB, which a worker that tells no share never needs

    if n <= 0:
        return 0.0, 1.0
    right, tail = min(max(right, 0.0), n), (1 - level) / 2
    low = float(betaincinv(right, n - right + 1, tail)) if right > 0 else 0.0
    high = float(betaincinv(right + 1, n - right, 1 - tail)) if right < n else 1.0
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (0.0, 1.0)
