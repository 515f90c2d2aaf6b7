"""Pictures of other sizes brought to one size, the same way in training and in serving."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageOps
from PIL.Image import Resampling

from models.base.errors import DataError
from models.data.raw import RawPart
from models.versions.schema import InputArray

RESIZES = ("stretch", "crop", "pad")
LARGE_PIXELS = 1_000_000  # pictures in between are kept below it where that is possible
MOST_NAMED = 8
Size = tuple[int, int]  # width, height
_ASKED = re.compile(r"(?P<mode>[a-z]+)(?::(?P<width>\d{1,5})x(?P<height>\d{1,5}))?")


@dataclass(frozen=True)
class Fit:
    """How pictures come to one size."""

    mode: str
    size: Size

    def note(self, sizes: Counter[Size]) -> str:
        """What was done to the pictures."""
        others = sum(count for size, count in sizes.items() if size != self.size)
        return (
            f"{others} of {sum(sizes.values())} images were brought to "
            f"{self.size[0]}x{self.size[1]} pixels ({self.mode}); send others to the service with "
            f"?resize={self.mode}"
        )


def fit_of(asked: str, count_sizes: Callable[[], Counter[Size]]) -> Fit | None:
    """How `--resize` brings pictures to one size: to the one named, or to the commonest.

    Args:
        asked: `MODE` or `MODE:WxH`; empty for None.
        count_sizes: how many pictures have each size; called only where no size is named.

    Raises:
        DataError: an unknown mode, or a size that is none.
    """
    if not asked:
        return None
    match = _ASKED.fullmatch(asked)
    if match is None or match["mode"] not in RESIZES:
        modes = ", ".join(RESIZES)
        raise DataError(
            f"--resize {asked!r}: expected {modes}, or one of them with a size, such as "
            "stretch:64x48 (width x height)"
        )
    if match["width"] is None:
        sizes = count_sizes()
        commonest = max(sizes, key=lambda size: (sizes[size], size), default=(1, 1))
        return Fit(match["mode"], commonest)
    size = int(match["width"]), int(match["height"])
    if 0 in size:
        raise DataError(f"--resize {asked!r}: a picture has at least one pixel along each side")
    return Fit(match["mode"], size)


def describe_sizes(sizes: Counter[Size], what: str) -> str:
    """A sentence on pictures of several sizes, and what to do."""
    ranked = sorted(sizes, key=lambda size: (-sizes[size], size))
    named = ", ".join(f"{w}x{h} ({sizes[w, h]})" for w, h in ranked[:MOST_NAMED])
    more = f" and {len(ranked) - MOST_NAMED} more" * (len(ranked) > MOST_NAMED)
    width, height = ranked[0]
    return (
        f"{what}: the images have {len(ranked)} sizes (width x height, with their number): "
        f"{named}{more}; a model takes one size: --resize stretch, crop or pad brings them to "
        f"{width}x{height}, --resize stretch:WxH to another"
    )


def resize_image(image: Image.Image, size: Size, mode: str) -> Image.Image:
    """By bicubic interpolation, over all pixels that fall into one where it becomes smaller.

    Args:
        image: of mode `L`, `RGB` or `F`.
        size: width and height.
        mode: `stretch`, `crop` (the middle is taken) or `pad` (with black).
    """
    if mode == "crop":
        return ImageOps.fit(image, size, Resampling.BICUBIC)
    if mode == "stretch":
        return _scale_image(image, size)
    scale = min(size[0] / image.width, size[1] / image.height)
    width, height = (max(1, round(side * scale)) for side in image.size)
    padded = Image.new(image.mode, size)
    inner = _scale_image(image, (width, height))
    padded.paste(inner, ((size[0] - width) // 2, (size[1] - height) // 2))
    return padded


def resize_array(x: InputArray, fit: Fit) -> InputArray:
    """Pixels `(N, C, H, W)` of any number type to the size of `fit`; bytes as `resize_image`.

    Others are clipped to the range that the picture had: interpolation goes beyond it at edges.
    """
    if x.shape[:1:-1] == fit.size:
        return x
    made = np.empty((*x.shape[:2], *fit.size[::-1]), dtype=x.dtype)
    for row, picture in enumerate(x):
        for channel, plane in enumerate(picture):
            if x.dtype == np.uint8:
                made[row, channel] = resize_image(Image.fromarray(plane), fit.size, fit.mode)
                continue
            wide = Image.fromarray(plane.astype(np.float32))
            values = np.asarray(resize_image(wide, fit.size, fit.mode))
            if x.dtype.kind in "iu":
                values = np.rint(values)
            low, high = (0, plane.max()) if fit.mode == "pad" else (plane.min(), plane.max())
            made[row, channel] = np.clip(values, min(low, plane.min()), high)
    return made


def resize_parts(
    parts: Sequence[RawPart], asked: str
) -> tuple[tuple[RawPart, ...], tuple[str, ...]]:
    """Parts that hold arrays of pictures with the pixels that `--resize` asks for, and notes.

    Raises:
        DataError: `asked` cannot be, or the parts are no pictures.
    """
    if not asked:
        return tuple(parts), ()
    sizes: Counter[Size] = Counter()
    for part in parts:
        if part.pixels is None:
            raise DataError("--resize is for images, and this is a table")
        sizes[part.pixels.shape[3], part.pixels.shape[2]] += len(part.pixels)
    first = parts[0].pixels
    assert first is not None
    fit = fit_of(asked, lambda: Counter({(first.shape[3], first.shape[2]): len(first)}))
    assert fit is not None
    fitted = tuple(
        part if part.pixels is None else replace(part, pixels=resize_array(part.pixels, fit))
        for part in parts
    )
    return fitted, (fit.note(sizes),)


def _scale_image(image: Image.Image, size: Size) -> Image.Image:
    """Resized; no large picture in between has more pixels than the larger of both.

    Pillow goes along the rows first: one that becomes wider and lower would first be wider at its
    full height. Where that is not large it stays so, for the sake of the same values.
    """
    widened = size[0] * image.height
    if widened > LARGE_PIXELS and size[0] > image.width and size[1] < image.height:
        image = image.resize((image.width, size[1]), Resampling.BICUBIC)
    return image.resize(size, Resampling.BICUBIC)
