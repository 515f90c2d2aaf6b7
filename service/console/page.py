"""The files of the page: read once, each module under a name that holds a digest of it.

A module names the others it imports, so its digest covers theirs too, and browsers may keep it for
ever. The page itself is asked for anew each time.
"""

import re
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from service.console.squeeze import squeeze_script, squeeze_style
from service.web.page_headers import page_headers

FOLDER = Path(__file__).parent / "files"
INDEX, ENTRY, STYLE = "index.html", "main.js", "style.css"
PREFIX = "/console/page/"
IMPORT = re.compile(r'(from "|import "|import\(")\./([a-z]+\.js)"')
MEDIA = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
DIGITS = 10
FOR_EVER = ("Cache-Control", "public, max-age=31536000, immutable")


class Asset(NamedTuple):
    """A file as it is served."""

    name: str
    media: str
    body: bytes
    headers: tuple[tuple[str, str], ...]


class Page(NamedTuple):
    """The page and the files that it loads, by name."""

    html: bytes
    assets: dict[str, Asset]


@cache
def read_page(folder: Path = FOLDER) -> Page:
    """Read the files, and put digests into their names.

    Raises:
        OSError: a file is not there.
        ValueError: modules import each other in a circle.
    """
    assets: dict[str, Asset] = {}
    named: dict[str, str] = {}

    def add(name: str, on_the_way: tuple[str, ...] = ()) -> str:
        if name in on_the_way:
            raise ValueError(f"modules import each other: {' -> '.join((*on_the_way, name))}")
        if name not in named:
            text = (folder / name).read_text(encoding="utf-8")
            text = IMPORT.sub(lambda m: f'{m[1]}{PREFIX}{add(m[2], (*on_the_way, name))}"', text)
            stem, dot, kind = name.partition(".")
            body = (squeeze_script(text) if kind == "js" else squeeze_style(text)).encode()
            named[name] = f"{stem}.{sha256(body).hexdigest()[:DIGITS]}{dot}{kind}"
            media = MEDIA[f".{kind}"]
            nosniff = ("X-Content-Type-Options", "nosniff")
            assets[named[name]] = Asset(named[name], media, body, (nosniff, FOR_EVER))
        return named[name]

    html = re.sub(r">\n<", "><", (folder / INDEX).read_text(encoding="utf-8"))
    for name in (STYLE, ENTRY):
        html = html.replace(f'"./{name}"', f'"{PREFIX}{add(name)}"')
    return Page(html.encode(), assets)


def page_reply_headers() -> tuple[tuple[str, str], ...]:
    """Headers of the page: nothing inline runs, and the answer depends on `Accept`."""
    return (*page_headers(), ("Vary", "Accept"))
