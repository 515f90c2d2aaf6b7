"""Some held-out rows in a bundle, for people to try a version with: `examples.npz`.

They are rows of the user's data. Who does not want them in bundles leaves them out when a version
is made (`--no-examples`); what the loop makes of it then has none either.
"""

import io
import zipfile

import numpy as np
import numpy.typing as npt

from models.base.errors import BundleError
from models.statistics.arrays import IntArray
from models.versions.bundle import Bundle
from models.versions.schema import DTYPES, InputArray

EXAMPLES = "examples.npz"
MOST_ROWS = 24
MOST_BYTES = 1 << 22  # of rows; fewer of large ones


def choose_examples(x: InputArray, y: IntArray, classes: int) -> npt.NDArray[np.intp]:
    """Choose rows, the classes by turns: the first of each, then the second, and so on.

    Args:
        x: `(N, *shape)` held-out rows.
        y: `(N,)` their classes.
        classes: how many there are.

    Returns:
        `(n,)` places, at most 24 and at most 4 MiB of rows.

    >>> choose_examples(np.zeros((5, 1), np.float32), np.array([1, 1, 0, 0, 2]), 3).tolist()
    [2, 0, 4, 3, 1]
    """
    most = min(MOST_ROWS, MOST_BYTES // max(1, x[:1].nbytes))
    by_class = [np.flatnonzero(y == each) for each in range(classes)]
    rounds = range(max((len(rows) for rows in by_class), default=0))
    order = [int(rows[turn]) for turn in rounds for rows in by_class if turn < len(rows)]
    return np.array(order[:most], dtype=np.intp)


def encode_examples(x: InputArray, y: IntArray) -> bytes:
    """The bytes of the file: `x` `(n, *shape)` and `y` `(n,)`, without pickle."""
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, x=x, y=y)
    return stream.getvalue()


def read_examples(bundle: Bundle) -> tuple[InputArray, IntArray] | None:
    """The rows `(n, *shape)` and classes `(n,)` of a bundle; None where it has none.

    Raises:
        BundleError: the file is damaged.
    """
    manifest = bundle.manifest
    if EXAMPLES not in manifest.files:
        return None
    try:
        with np.load(io.BytesIO(bundle.read(EXAMPLES)), allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(bundle.path, f"{EXAMPLES} holds no plain arrays: {error}") from error
    wanted = (len(y), *manifest.input.shape)
    known = np.issubdtype(y.dtype, np.integer) and y.ndim == 1
    if not known or x.shape != wanted or x.dtype != DTYPES[manifest.input.dtype]:
        raise BundleError(bundle.path, f"{EXAMPLES} holds {x.shape}, expected {wanted}")
    inside = len(y) == 0 or (y.min() >= 0 and y.max() < len(manifest.classes))
    if not inside:
        raise BundleError(bundle.path, f"{EXAMPLES} names a class that there is not")
    return x, y.astype(np.int64)
