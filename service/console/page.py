"""The files of the page: read once, script and style under names that hold a digest of them.

The modules are served as one script, each after those that it imports: browsers ask once instead
of once for each step of the imports, and may keep it for ever. So no two modules may use one name
at their top, and an import has the name of what it imports. The page itself is asked for anew each
time.
"""

import re
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from service.console.squeeze import squeeze_script, squeeze_style
from service.web.page_headers import page_headers

FOLDER = Path(__file__).parent / "files"
INDEX, ENTRY, STYLE = "index.html", "main.js", "style.css"
PREFIX = "/console/page/"
IMPORT = re.compile(r'^import \{ [\w$, ]+ \} from "\./([a-z]+\.js)";\n', re.MULTILINE)
MEDIA = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
EXPORT = re.compile(r"^export (?=(?:async function|function|class|const|let) )", re.MULTILINE)
UNREAD = re.compile(r"^(?:import|export)\b.*$", re.MULTILINE)  # of a joined script
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
        ValueError: modules import each other in a circle, or one is not of the form that is read.
    """
    html = re.sub(r">\n<", "><", (folder / INDEX).read_text(encoding="utf-8"))
    assets: dict[str, Asset] = {}
    style = squeeze_style((folder / STYLE).read_text(encoding="utf-8"))
    script = squeeze_script("".join(_read_modules(folder, ENTRY, {})))
    for name, body in ((STYLE, style.encode()), (ENTRY, script.encode())):
        stem, dot, kind = name.partition(".")
        served = f"{stem}.{sha256(body).hexdigest()[:DIGITS]}{dot}{kind}"
        headers = (("X-Content-Type-Options", "nosniff"), FOR_EVER)
        assets[served] = Asset(served, MEDIA[f".{kind}"], body, headers)
        html = html.replace(f'"./{name}"', f'"{PREFIX}{served}"')
    return Page(html.encode(), assets)


def _read_modules(folder: Path, name: str, read: dict[str, bool]) -> Iterator[str]:
    """A module and, before it, those it imports, without the lines that say so; each once.

    Args:
        read: the modules on the way (False), and those that are done.
    """
    if read.get(name):
        return
    if name in read:
        raise ValueError(f"modules import each other: {' -> '.join(read)} -> {name}")
    read[name] = False
    text = (folder / name).read_text(encoding="utf-8")
    for imported in IMPORT.findall(text):
        yield from _read_modules(folder, imported, read)
    read[name] = True
    module = EXPORT.sub("", IMPORT.sub("", text))
    if unread := UNREAD.findall(module):  # the joined script would be none: an empty page
        raise ValueError(f"{name} has what cannot be joined: {'; '.join(unread)}")
    yield module


def page_reply_headers() -> tuple[tuple[str, str], ...]:
    """Headers of the page: nothing inline runs, and the answer depends on `Accept`."""
    return (*page_headers(), ("Vary", "Accept"))
