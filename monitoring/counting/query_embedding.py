"""The numbers by which two queries are compared, and the distance that counts as near.

An attack that only sees answers sends a long series of inputs that hardly differ. Averages over a
coarse grid remove what it varies (pixels, stripes, squares) and preserve the differences between
ordinary inputs.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.statistics.arrays import FloatArray
from models.versions.schema import InputArray, InputSchema

GRID = 10  # cells of an image along each side, at most
WIDTH = GRID * GRID  # numbers of an embedding, at most
COARSE = 32  # numbers of its coarse part, at most
REACH = (-1.0, 2.0)  # numbers of a table are clipped to this, in units of the training range
CAPACITY = 1000  # queries of a client that a new one is compared with

HIT_RATE = 0.002  # of clean queries against CAPACITY others; half of it was measured
TAIL = 20  # the lower 1 / TAIL of the distances gives the law that is extrapolated
FEWEST_ROWS, MOST_ROWS = 40, 6000
CONTRASTS = (1.0, 2.0, 4.0)
PROBE_EPS, PROBE_SHARE, PROBED_ROWS = 0.3, 0.2, 200

Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Embedding:
    """Inputs `(N, *shape)` to `(N, width)` float32, by arrays that the schema gives.

    Images: contrast c around the middle of the range, clipped; means over a grid of at most 10 x 10
    cells and over the channels; minus the mean of the cells, so that light does not count:

        u = clip(c (x_unit - 1/2), -1/2, 1/2),   z = P_h u P_w,   z - mean(z)

    Tables: numbers in the unit range, clipped, a missing one in the middle; every category an axis
    of length sqrt(1/2), so that two categories are 1 apart. Rows of more than 100 numbers are
    projected at random (Johnson & Lindenstrauss 1984).

    `coarse` has orthonormal columns, so |coarse' (a - b)| <= |a - b|: what is not near in these few
    numbers is not near at all. Images: the lowest frequencies of the grid, where most of what tells
    them apart lies; tables: a random subspace.

    >>> schema = InputSchema("x", (1, 28, 28), "float32", 0.0, 1.0, "image")
    >>> Embedding.of(schema)(np.ones((2, 1, 28, 28), np.float32)).shape
    (2, 100)
    """

    schema: InputSchema
    width: int
    contrast: float
    left: Float32s  # images: (grid, height); tables: (width of the whole row, width)
    right: Float32s  # images: (width, grid)
    coarse: Float32s  # (width, at most 32)

    @classmethod
    def of(cls, schema: InputSchema, contrast: float = 1.0) -> "Embedding":
        """The embedding of a schema."""
        empty = np.zeros((0, 0), np.float32)
        if schema.kind == "image":
            height, width = schema.shape[-2:]
            slope = np.float32(contrast / ((schema.high - schema.low) or 1.0))
            left, right = slope * _averages(height), np.ascontiguousarray(_averages(width).T)
            rows, columns = len(left), right.shape[1]
            return cls(schema, rows * columns, contrast, left, right, _lowest(rows, columns))
        whole = sum(max(len(c.categories), 1) for c in schema.columns) or schema.size
        if whole <= WIDTH:
            return cls(schema, whole, 1.0, empty, empty, _subspace(whole))
        drawn = np.random.default_rng(0).normal(0, WIDTH**-0.5, (whole, WIDTH))
        return cls(schema, WIDTH, 1.0, drawn.astype(np.float32), empty, _subspace(WIDTH))

    @property
    def fingerprint(self) -> bytes:
        """Equal for embeddings whose results may be compared."""
        return hashlib.blake2b(repr((self.schema, self.contrast)).encode(), digest_size=8).digest()

    def __call__(self, x: InputArray) -> Float32s:
        """`(N, *shape)` raw inputs that have passed `InputSchema.check` to `(N, width)`."""
        return self._image(x) if self.schema.kind == "image" else self._row(x)

    def _image(self, x: InputArray) -> Float32s:
        schema = self.schema
        u = x if x.dtype == np.float32 else x.astype(np.float32)
        if self.contrast != 1:  # else every value lies within, and the middle goes with the mean
            middle, half = (schema.low + schema.high) / 2, (schema.high - schema.low) / 2
            u = np.maximum(u, np.float32(middle - half / self.contrast))
            np.minimum(u, np.float32(middle + half / self.contrast), out=u)
        if len(x) == 1 and x.shape[1] == 1:  # the same, by two plain products of matrices
            one: Float32s = self.left.dot(u[0, 0]).dot(self.right).reshape(1, self.width)
            one -= np.float32(np.add.reduce(one[0]) / self.width)
            return one
        cells = np.matmul(np.matmul(self.left, u), self.right).reshape(len(x), -1, self.width)
        z: Float32s = cells[:, 0] if cells.shape[1] == 1 else cells.mean(axis=1, dtype=np.float32)
        mean = np.add.reduce(z, axis=1, keepdims=True) / np.float32(self.width)
        return np.asarray(z - mean, np.float32)

    def _row(self, x: InputArray) -> Float32s:
        unit = self.schema.to_unit(x).reshape(len(x), -1)
        kinds = [c.kind == "categorical" for c in self.schema.columns] or [False] * unit.shape[1]
        numbers = unit[:, [not kind for kind in kinds]]
        parts = [np.clip(np.where(np.isnan(numbers), 0.5, numbers), *REACH)]
        for index, column in enumerate(self.schema.columns):
            if column.kind == "categorical":
                codes = np.arange(max(len(column.categories), 1))
                parts.append((unit[:, index, None] == codes) * 0.5**0.5)
        z = np.concatenate(parts, axis=1).astype(np.float32)
        return z if z.shape[1] == self.width else z @ self.left


def calibrate(schema: InputSchema, held_rows: InputArray) -> dict[str, FloatArray]:
    """The distance that counts as near, from rows as customers send them.

    The distances d_i of a row to its nearest among m others are taken for a power law in their
    lower tail (Hill 1975), whose exponent D is the dimension of the data near a point; from it the
    quantile at the hit rate p is extrapolated (Weissman 1978), and from m to the 1000 queries of a
    client:

        1/D = mean_{i<=k} ln(d_(k+1) / d_(i)),  threshold = d_(k+1) (p n / k)^(1/D) (m / 1000)^(1/D)

    For images, of three contrasts the one is taken that puts squares of random sign, as the Square
    attack tries them, nearest in units of the threshold.

    Args:
        schema: of the input.
        held_rows: `(N, *shape)` raw rows that the model has not seen; 40 distinct ones at least.

    Returns:
        `queries/threshold` and `queries/contrast`, each of shape `()`; empty where the rows do
        not suffice, which leaves the detector off.
    """
    rows = _distinct(held_rows)
    rng = np.random.default_rng(0)
    rows = rows[rng.permutation(len(rows))[:MOST_ROWS]]
    candidates: list[tuple[float, float, float]] = []
    for contrast in CONTRASTS if schema.kind == "image" else CONTRASTS[:1]:
        embedding = Embedding.of(schema, contrast)
        threshold = _threshold(_nearest(embedding(rows)))
        if threshold is not None:
            apart = _apart(embedding, rows) if schema.kind == "image" else 0.0
            candidates.append((apart / threshold, threshold, contrast))
    if not candidates:
        return {}
    _, threshold, contrast = min(candidates)
    return {"queries/threshold": np.array(threshold), "queries/contrast": np.array(contrast)}


def read(
    schema: InputSchema, reference: Mapping[str, FloatArray]
) -> tuple[Embedding, float] | None:
    """Embedding and threshold from the arrays of a bundle, or None where it has none."""
    if "queries/threshold" not in reference:
        return None
    contrast = float(reference.get("queries/contrast", np.array(1.0)))
    return Embedding.of(schema, contrast), float(reference["queries/threshold"])


def _averages(size: int) -> Float32s:
    """`(cells, size)`: each row averages its share of `size` values, by overlap."""
    edges = np.linspace(0, size, min(GRID, size) + 1)
    at = np.arange(size)
    overlap = np.minimum(edges[1:, None], at + 1) - np.maximum(edges[:-1, None], at)
    overlap = np.maximum(overlap, 0)
    return np.asarray(overlap / overlap.sum(axis=1, keepdims=True), np.float32)


def _lowest(height: int, width: int) -> Float32s:
    """`(height width, at most 32)`: the lowest frequencies (DCT-II) of a grid, orthonormal."""
    vertical, horizontal = _cosines(height), _cosines(width)
    places = [(j, k) for j in range(height) for k in range(width)]
    order = sorted(places[1:], key=lambda at: (at[0] / height) ** 2 + (at[1] / width) ** 2)
    columns = [np.outer(vertical[j], horizontal[k]).ravel() for j, k in order[:COARSE]]
    return np.array(columns, np.float32).reshape(-1, height * width).T.copy()


def _cosines(size: int) -> FloatArray:
    """`(size, size)`: row j is the j-th cosine of the DCT-II, of length 1."""
    at = np.arange(size)
    waves = np.cos(np.pi / size * (at + 0.5) * at[:, None])
    return np.asarray(waves / np.linalg.norm(waves, axis=1, keepdims=True), np.float64)


def _subspace(width: int) -> Float32s:
    """`(width, at most 32)`: orthonormal columns drawn at random, always the same ones."""
    drawn = np.random.default_rng(0).normal(size=(width, min(width, COARSE)))
    return np.asarray(np.linalg.qr(drawn)[0], np.float32)


def _distinct(rows: InputArray) -> InputArray:
    """Rows without exact repeats, which never count."""
    last = {row.tobytes(): index for index, row in enumerate(rows)}
    return rows[sorted(last.values())]


def _nearest(z: Float32s) -> tuple[FloatArray, int]:
    """Distance of each row to its nearest among m others, and m, at most the capacity."""
    n, squares = len(z), (z**2).sum(axis=1)
    others = min(CAPACITY, n - 1)
    nearest = np.empty(n)
    for begin in range(0, n, 256):
        at = np.arange(begin, min(begin + 256, n))
        # The next rows in a circle: a client's buffer has the last ones, which is the same by law.
        around = (at[0] + np.arange(others + len(at))) % n
        d = squares[at, None] + squares[around] - 2 * z[at] @ z[around].T
        step = np.arange(len(around)) - np.arange(len(at))[:, None]
        d[(step <= 0) | (step > others)] = np.inf
        nearest[at] = np.sqrt(np.maximum(d.min(axis=1), 0))
    return nearest, others


def _threshold(distances: tuple[FloatArray, int]) -> float | None:
    nearest, others = distances
    ordered = np.sort(nearest[nearest > 0])
    if len(ordered) < FEWEST_ROWS:
        return None
    tail = max(10, len(ordered) // TAIL)
    slope = float(np.log(ordered[tail] / ordered[:tail]).mean())  # 1 / D
    threshold = ordered[tail] * (HIT_RATE * len(ordered) / tail * others / CAPACITY) ** slope
    return float(threshold) if 0 < threshold < np.inf else None


def _apart(embedding: Embedding, rows: InputArray) -> float:
    """Median distance of two rows that differ by squares of random sign."""
    schema, rng = embedding.schema, np.random.default_rng(1)
    unit = schema.to_unit(rows[:PROBED_ROWS])
    height, width = schema.shape[-2:]
    side = min(max(round((PROBE_SHARE * height * width) ** 0.5), 1), height, width)

    def probes() -> Float32s:
        probed = unit.copy()
        for image in probed:
            top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
            square = image[..., top : top + side, left : left + side]
            square += PROBE_EPS * rng.choice((-1, 1), (*square.shape[:-2], 1, 1))
        return embedding(schema.from_unit(np.clip(probed, 0, 1)))

    return float(np.median(np.linalg.norm(probes() - probes(), axis=1)))
