"""Which mix of known kinds explains counts best, and how well at most."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
STEPS = 40
POWER = 1.5  # of the step of expectation maximisation: it goes faster, and the mix stays a mix


def most_likely_mix(
    counts: Floats, kinds: Floats, *, steps: int = STEPS, start: Floats | None = None
) -> tuple[Floats, Floats]:
    """The largest log-likelihood of counts under any mix of kinds, from above, and the mix.

    L(w) = sum_g D_g ln p_g(w), p_g(w) = sum_k w_k p_kg; w_k <- w_k h_k^1.5 / sum with the slope
    h_k = sum_g D_g p_kg / p_g. L is concave, so max L <= L(w) + max_k h_k - sum_g D_g (the gap of
    Frank and Wolfe), which is returned: it is never too small, however few the steps.

    Args:
        counts: `(S, G)` float64 >= 0, a problem a row.
        kinds: `(K, G)` float64 > 0, every row sums to 1.
        steps: more make the bound tighter.
        start: mixes `(S, K)` to begin with.

    Returns:
        `(S,)` in nats, and the mixes `(S, K)`.

    >>> kinds, counts = np.array([[0.9, 0.1], [0.5, 0.5]]), np.array([[70.0, 30.0]])
    >>> most, mix = most_likely_mix(counts, kinds)
    >>> float(most[0].round(3)), mix.round(2).tolist()
    (-61.086, [[0.5, 0.5]])
    """
    assert counts.shape[1] == kinds.shape[1]
    w = np.full((len(counts), len(kinds)), 1 / len(kinds)) if start is None else start
    w = 0.99 * w + 0.01 / len(kinds)  # a kind whose share is 0 could never come back
    for _ in range(steps):
        w = w * np.maximum((counts / (w @ kinds)) @ kinds.T, 1e-300) ** POWER
        w /= w.sum(axis=1, keepdims=True)
    p = w @ kinds
    gap = ((counts / p) @ kinds.T).max(axis=1) - counts.sum(axis=1)
    most: Floats = (counts * np.log(p)).sum(axis=1) + np.maximum(gap, 0.0)
    return most, w
