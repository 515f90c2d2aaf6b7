"""Pictures of the smallest perturbations that turn an answer, for the report."""

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt

from models.data import Rows
from models.evaluation.subject import Arrays
from models.versions.schema import InputSchema

MOST, PER_CLASS = 12, 2


def gallery(
    schema: InputSchema, classes: tuple[str, ...], rows: Rows, found: Arrays, norm: str
) -> list[dict[str, Any]]:
    """The smallest successful perturbations, at most two per class and twelve in all.

    Args:
        schema: of image inputs.
        classes: names of the classes.
        rows: those that were attacked.
        found: the unit `smallest`: `x` (raw, changed), `eps` (infinite: none), `predicted`.
        norm: in which `eps` is measured.

    Returns:
        Smallest first: `{"true", "predicted", "eps", "norm", "original", "changed", "difference"}`,
        the last three as PNG data URIs; the difference is magnified to the full range around grey.
    """
    eps = np.asarray(found["eps"], dtype=np.float64)
    counts: dict[int, int] = {}
    shown: list[dict[str, Any]] = []
    for i in np.argsort(eps, kind="stable"):
        true = int(rows.y[i])
        if not np.isfinite(eps[i]) or len(shown) == MOST:
            break
        if counts.get(true, 0) == PER_CLASS:
            continue
        counts[true] = counts.get(true, 0) + 1
        before = schema.to_unit(rows.x[i : i + 1])[0]
        after = schema.to_unit(np.asarray(found["x"])[i : i + 1])[0]
        change = after - before
        shown.append(
            {
                "true": classes[true],
                "predicted": classes[int(found["predicted"][i])],
                "eps": round(float(eps[i]), 5),
                "norm": norm,
                "original": png(before),
                "changed": png(after),
                "difference": png(0.5 + change / (2 * max(float(np.abs(change).max()), 1e-12))),
            }
        )
    return shown


def png(image: npt.NDArray[np.floating[Any]]) -> str:
    """A unit-range image `(channels, height, width)` as a PNG data URI: grey, or the first three.

    >>> png(np.zeros((1, 2, 2)))[:30]
    'data:image/png;base64,iVBORw0K'
    """
    from PIL import Image

    levels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    shown = levels[:3].transpose(1, 2, 0) if len(levels) >= 3 else levels[0]
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(shown)).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
