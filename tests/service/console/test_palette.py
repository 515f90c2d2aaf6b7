"""The page's colours can be read: 4.5 to 1 for words, 3 to 1 for what is no word."""

import re

import pytest

from service.console.page import FOLDER, STYLE

WORDS, OTHERS = ("ink", "soft", "blue", "green", "red", "orange"), ("grey",)
GROUNDS = ("paper", "card", "warm", "tint")
SCHEMES = [
    dict(re.findall(r"--(\w+):(#\w+)", block))
    for block in re.findall(r":root\{([^}]*)\}", (FOLDER / STYLE).read_text(encoding="utf-8"))[:2]
]


def luminance(colour: str) -> float:
    """The relative luminance of `#rgb` or `#rrggbb`. Source: WCAG 2.2."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    shares = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, 1 to 21."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colours", SCHEMES, ids=("light", "dark"))
def test_every_colour_stands_out_from_every_ground(colours: dict[str, str]) -> None:
    for least, names in ((4.5, WORDS), (3.0, OTHERS)):
        for name in names:
            for ground in GROUNDS:
                assert contrast(colours[name], colours[ground]) >= least, (name, ground)
    assert contrast(colours["onblue"], colours["blue"]) >= 4.5
