"""Certificates by randomised smoothing: no change of L2 length below the radius alters the answer.

The *smoothed* classifier answers what the base classifier answers most often under Gaussian noise,
g(x) = argmax_c P[f(x + sigma Z) = c]. With the share of the winner at least p > 1/2, g is
constant on the open L2 ball of radius sigma Phi^-1(p) around x (Cohen, Rosenfeld & Kolter 2019,
theorem 1; sampling as in their algorithm CERTIFY).

What the guarantee is about. f is everything between the noisy unit-range input and the winner:
clipping to the range of the schema, rounding where inputs are integers, the served graph, argmax.
Clipping and rounding depend on nothing but the noisy input, so they are part of f and the theorem
holds for g as it is sampled here, at every real-valued x. It says nothing of the served
classifier without noise, and a served answer may differ from g's. A certificate is wrong with
probability at most alpha. Noise is float32, so the usual caveat of finite precision applies.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import special

from models.base.errors import InputError
from models.statistics.arrays import IntArray
from models.statistics.intervals import proportion
from models.versions.figures import Certified, CertifiedPoint
from models.versions.runner import Runner
from models.versions.schema import InputArray, InputSchema

if TYPE_CHECKING:
    from models.data.records import Rows

Predict = Runner | Callable[[InputArray], npt.NDArray[np.floating[Any]]]
BATCH, BATCH_VALUES = 256, 2**22
LARGEST_SIGMA = 10.0


class Certificate(msgspec.Struct, frozen=True):
    """What randomised smoothing says of one input.

    `index` is the class that the smoothed classifier answers everywhere within `radius` (L2, in
    units of the [0, 1] range), or None where it abstains (then the radius is 0). `p_low` is the
    lower confidence bound, at 1 - `alpha`, of that class's probability under noise of `sigma`.
    """

    index: int | None
    radius: float
    p_low: float
    sigma: float
    samples: int
    alpha: float


def certify(
    predict: Predict,
    schema: InputSchema,
    x_row: InputArray,
    *,
    sigma: float,
    samples: int = 1000,
    selection: int = 100,
    alpha: float = 0.001,
    seed: int | Sequence[int] = 0,
) -> Certificate:
    """The certificate of one raw input.

    The class is chosen on `selection` noisy copies; its probability is bounded from below on
    `samples` fresh ones (Clopper-Pearson, one-sided), and the radius is sigma Phi^-1(p_low). The
    largest radius that so many samples can give is `largest_radius(sigma, samples, alpha)`.

    Args:
        predict: a Runner, or raw inputs `(n, *shape)` to probabilities (or logits) `(n, C)`.
        schema: the input schema: an image, or a table of numeric columns only.
        x_row: one raw input, shaped `schema.shape`.
        sigma: standard deviation of the noise, in units of the [0, 1] range; above 0, at most 10.
        samples: noisy copies that the bound rests on, at least 1.
        selection: noisy copies that choose the class, at least 1.
        alpha: probability that the certificate is wrong, between 0 and 1.
        seed: the same seed gives the same certificate.

    Raises:
        InputError: an input that the schema refuses, a table with categorical columns or a missing
            value (an L2 length over them means nothing), or an option out of range.

    Source: Cohen, Rosenfeld & Kolter 2019, "Certified Adversarial Robustness via Randomized
    Smoothing", algorithm CERTIFY.

    >>> schema = InputSchema("x", (1, 2, 2), "float32", 0.0, 1.0, "image")
    >>> brighter = lambda x: np.stack([x.mean((1, 2, 3)) < 0.5, x.mean((1, 2, 3)) >= 0.5], axis=1)
    >>> grey = np.full((1, 2, 2), 0.7, dtype=np.float32)
    >>> certificate = certify(brighter, schema, grey, sigma=0.25)
    >>> certificate.index, 0.3 < certificate.radius < 0.4  # the boundary is .2 * sqrt(4) = .4 away
    (1, True)
    """
    _check(sigma, samples, selection, alpha, seed)
    _check_input(schema, x_row)
    rng = np.random.default_rng(seed)
    unit = schema.to_unit(x_row[None])
    chosen = _votes(predict, schema, unit, sigma, selection, rng)
    if not chosen.any():
        return Certificate(None, 0.0, 0.0, sigma, samples, alpha)
    winner = int(chosen.argmax())
    votes = _votes(predict, schema, unit, sigma, samples, rng)
    p_low = lower_bound(int(votes[winner]), samples, alpha)
    if p_low <= 0.5:
        return Certificate(None, 0.0, p_low, sigma, samples, alpha)
    return Certificate(winner, sigma * float(special.ndtri(p_low)), p_low, sigma, samples, alpha)


def lower_bound(hits: int, n: int, alpha: float) -> float:
    """One-sided Clopper-Pearson bound: P[true share < bound] <= alpha, for `hits` of `n`.

    >>> round(lower_bound(1000, 1000, 0.001), 4)  # alpha ** (1 / n)
    0.9931
    """
    assert 0 <= hits <= n
    return float(special.betaincinv(hits, n - hits + 1, alpha)) if hits else 0.0


def largest_radius(sigma: float, samples: int, alpha: float) -> float:
    """The radius where every one of `samples` noisy copies got the same answer.

    >>> round(largest_radius(0.25, 1000, 0.001), 3)
    0.616
    """
    p_low = lower_bound(samples, samples, alpha)
    return sigma * float(special.ndtri(p_low)) if p_low > 0.5 else 0.0


def certify_curve(
    predict: Predict,
    schema: InputSchema,
    rows: "Rows",
    radii: Sequence[float],
    *,
    sigma: float,
    samples: int = 1000,
    selection: int = 100,
    alpha: float = 0.001,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Certified:
    """Certified accuracy: the share of labelled rows answered right at least `radius` around.

    Args:
        predict, schema, sigma, samples, selection, alpha: as for `certify`.
        rows: labelled raw rows; row i draws its noise from the seed `(seed, i)`.
        radii: L2 lengths in units of the [0, 1] range; at 0, how often the smoothed classifier is
            right and does not abstain.
        progress: called with `(done, total)` rows.

    The intervals are over rows (95 %, Wilson).

    Raises:
        InputError: as `certify` does, or a negative radius.
    """
    if not min(radii, default=0.0) >= 0:
        raise InputError("radii", "lengths of at least 0", f"{min(radii):g}")
    radius = np.full(len(rows), -1.0)
    options = {"sigma": sigma, "samples": samples, "selection": selection, "alpha": alpha}
    for i, (x, y) in enumerate(zip(rows.x, rows.y, strict=True)):
        certificate = certify(predict, schema, x, seed=(seed, i), **options)  # type: ignore[arg-type]
        if certificate.index == y:
            radius[i] = certificate.radius
        if progress is not None:
            progress(i + 1, len(rows))
    return Certified(sigma, samples, alpha, len(rows), certified_points(radius, radii))


def certified_points(
    radius: npt.NDArray[np.float64], radii: Sequence[float]
) -> tuple[CertifiedPoint, ...]:
    """The share of rows certified at each of the radii.

    Args:
        radius: `(N,)` of each row; below 0 where the answer is wrong or withheld.
        radii: L2 lengths.
    """
    return tuple(CertifiedPoint(*proportion(radius >= r).parts, radius=float(r)) for r in radii)


def _votes(
    predict: Predict,
    schema: InputSchema,
    unit: npt.NDArray[np.float32],
    sigma: float,
    n: int,
    rng: np.random.Generator,
) -> IntArray:
    """How often `(C,)` each class wins under noise; an answer that is not finite wins nothing."""
    votes: IntArray | None = None
    step = max(1, min(BATCH, BATCH_VALUES // schema.size))
    for start in range(0, n, step):
        shape = (min(step, n - start), *schema.shape)
        noisy = unit + np.float32(sigma) * rng.standard_normal(shape, dtype=np.float32)
        if schema.kind == "image":
            noisy = np.clip(noisy, 0.0, 1.0)
        x = schema.from_unit(noisy)
        probabilities = predict.run(x).probabilities if isinstance(predict, Runner) else predict(x)
        winners = probabilities.argmax(axis=1)[np.isfinite(probabilities).all(axis=1)]
        counted = np.bincount(winners, minlength=probabilities.shape[1])
        votes = counted if votes is None else votes + counted
    assert votes is not None
    return votes


def _check(
    sigma: float, samples: int, selection: int, alpha: float, seed: int | Sequence[int]
) -> None:
    if not 0 < sigma <= LARGEST_SIGMA:
        wanted = f"noise in units of the [0, 1] range, above 0, at most {LARGEST_SIGMA:g}"
        raise InputError("sigma", wanted, f"{sigma:g}")
    if not 0 < alpha < 1:
        raise InputError("alpha", "a probability between 0 and 1", f"{alpha:g}")
    for name, count in (("samples", samples), ("selection", selection)):
        if count < 1:
            raise InputError(name, "at least 1", str(count))
    if np.min(seed) < 0:
        raise InputError("seed", "at least 0", str(np.min(seed)))


def _check_input(schema: InputSchema, x: InputArray) -> None:
    for column in schema.columns:
        if schema.kind == "tabular" and column.kind == "categorical":
            wanted = (
                "an image, or a table of numbers only (an L2 length over categories means nothing)"
            )
            raise InputError("certify", wanted, f"the categorical column {column.name!r}")
    schema.check(x[None])
    if np.isnan(x).any():
        raise InputError("instances[0]", "no missing value (an L2 length needs them all)", "NaN")
