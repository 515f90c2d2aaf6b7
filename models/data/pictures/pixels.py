"""Opened images as pixels: what training and serving share, so that a model sees the same of both.

Nothing here looks at sizes: whoever opens an image does, before it is decoded.
"""

from PIL import Image
from PIL.Image import Transpose

PLAIN = ("L", "RGB")
DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # grey with 16 bits, as Pillow's readers say
ORIENTATION = 0x0112
# What brings an image upright, by the orientation that the camera noted (EXIF 2.32, 4.6.4, A).
TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
SIDEWAYS = range(5, 9)  # the orientations that swap width and height


def upright(image: Image.Image, orientation: object) -> Image.Image:
    """The image as viewers show it; an orientation that is none of EXIF's means that it is so."""
    turn = TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def plain(image: Image.Image) -> Image.Image:
    """Grey (`L`) or colour (`RGB`) with 8 bits, where the image is another way to write just that.

    A palette is colours written another way, black and white are shades of grey, and an opaque
    alpha channel holds nothing. What then has a mode that is not in `PLAIN` (transparency, 16
    bits, CMYK, ...) would lose something if it were converted: whoever calls refuses it.
    """
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode in ("LA", "RGBA"):
        lowest, _ = image.getchannel("A").getextrema()
        if lowest == 255:
            image = image.convert("L" if image.mode == "LA" else "RGB")
    return image
