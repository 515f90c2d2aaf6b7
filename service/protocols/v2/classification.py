"""The classification extension of V2: the most probable classes as texts.

Source: Triton's `extension_classification`, and its server for what that leaves open: a count
above the number of classes means all of them, and the datatype is BYTES.
"""

from collections.abc import Sequence

import numpy as np
import orjson

from models.statistics.arrays import FloatArray

CLASSIFIED = "probabilities"  # the only output whose places are classes


def classify(probabilities: FloatArray, classes: Sequence[str], count: int) -> list[str]:
    """Return the `count` most probable classes of each row as `value:index:label`, best first.

    Args:
        probabilities: `(N, C)`, finite.
        classes: the C labels.
        count: at least 1; a larger one than the number of classes means all.

    Returns:
        N times min(`count`, C) texts, row after row. The value is the shortest text of the number
        in the dtype of `probabilities`; of equal values the lower index comes first.

    Example:
        >>> classify(np.float32([[0.1, 0.6, 0.3]]), ("cat", "dog", "eel"), 2)
        ['0.6:1:dog', '0.3:2:eel']
    """
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    values = np.take_along_axis(probabilities, best, axis=1)
    # orjson writes the shortest text of a number, for a whole array at once.
    flat = orjson.dumps(values.ravel(), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].decode()
    return [
        f"{value}:{index}:{classes[index]}"
        for value, index in zip(flat.split(","), best.ravel().tolist(), strict=True)
    ]
