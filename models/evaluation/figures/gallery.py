"""Pictures of the smallest perturbations that turn an answer, for the report."""

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt

from models.data import Rows
from models.evaluation.subject import Arrays
from models.versions.figures import ChangedPicture
from models.versions.schema import InputSchema

MOST, PER_CLASS = 12, 2


def gallery(
    schema: InputSchema, classes: tuple[str, ...], rows: Rows, smallest: Arrays, norm: str
) -> tuple[ChangedPicture, ...]:
    """The smallest successful perturbations, at most two per class and twelve in all.

    Args:
        schema: of image inputs.
        classes: names of the classes.
        rows: those that were attacked.
        smallest: the unit of that name: `x` (raw, changed), `eps` (infinite: none), `predicted`.
        norm: in which `eps` is measured.

    Returns:
        Smallest first; the difference is magnified to the full range around grey.
    """
    eps = np.asarray(smallest["eps"], dtype=np.float64)
    counts: dict[int, int] = {}
    pictures: list[ChangedPicture] = []
    for i in np.argsort(eps, kind="stable"):
        true = int(rows.y[i])
        if not np.isfinite(eps[i]) or len(pictures) == MOST:
            break
        if counts.get(true, 0) == PER_CLASS:
            continue
        counts[true] = counts.get(true, 0) + 1
        before = schema.to_unit(rows.x[i : i + 1])[0]
        after = schema.to_unit(np.asarray(smallest["x"])[i : i + 1])[0]
        change = after - before
        pictures.append(
            ChangedPicture(
                true=classes[true],
                predicted=classes[int(smallest["predicted"][i])],
                eps=round(float(eps[i]), 5),
                norm=norm,
                original=png(before),
                changed=png(after),
                difference=png(0.5 + change / (2 * max(float(np.abs(change).max()), 1e-12))),
            )
        )
    return tuple(pictures)


def png(image: npt.NDArray[np.floating[Any]]) -> str:
    """A unit-range image `(channels, height, width)` as a PNG data URI: grey, or the first three.

    >>> png(np.zeros((1, 2, 2)))[:30]
    'data:image/png;base64,iVBORw0K'
    """
    from PIL import Image

    levels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    pixels = levels[:3].transpose(1, 2, 0) if len(levels) >= 3 else levels[0]
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
