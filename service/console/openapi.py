"""The description of the service: `/openapi.json` for machines, `/docs` for people.

openapi.yaml is written by hand; `python -m service.console.openapi` makes openapi.json from it, so
that the service needs no YAML. A test fails when it is out of date. The served document has one
more member, `x-models`: the models of this service with their classes.
"""

import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import msgspec
import orjson

from models.versions.schema import Manifest
from service.web.call import Call, Endpoint
from service.web.page_headers import page_headers
from service.web.reply import Reply

HERE = Path(__file__).parent
SOURCE = HERE / "openapi.yaml"
MADE = HERE / "openapi.json"
MOST_CHARACTERS = 65_536  # of the names of classes in a description
SEPARATOR = 3  # two quotes and a comma


def endpoints(manifests: Callable[[], Iterable[Manifest]]) -> tuple[Endpoint, ...]:
    """Return the endpoints; `manifests` returns those of the served models."""
    document = MADE.read_bytes()
    head = document.rstrip().removesuffix(b"}")

    @cache  # made when somebody looks; most workers are never asked
    def page() -> Reply:
        from service.console.docs_page import SCRIPT, STYLE, page

        html = page(orjson.loads(document)).encode()
        headers = page_headers(scripts=[SCRIPT], styles=[STYLE])
        return Reply(html, media="text/html; charset=utf-8", headers=headers)

    def openapi(call: Call) -> Reply:
        models = msgspec.json.encode(describe_served(manifests()))
        return Reply(b"".join((head, b',"x-models":', models, b"}\n")))

    def docs(call: Call) -> Reply:
        return page()

    return Endpoint("GET", "/openapi.json", openapi), Endpoint("GET", "/docs", docs)


class DescribedModel(msgspec.Struct, frozen=True):
    """A served model in the description."""

    version: int
    input: str
    class_count: int
    classes: list[str]


def describe_served(manifests: Iterable[Manifest]) -> dict[str, DescribedModel]:
    """Return the served models by name: version, kind of input, and names of the classes.

    The names of all classes together may have `MOST_CHARACTERS`; further ones are left out.
    `class_count` has the full number, and the model's V2 metadata lists all classes.
    """
    left, models = MOST_CHARACTERS, {}
    for manifest in sorted(manifests, key=lambda each: each.model):
        names = []
        for name in manifest.classes:
            left -= len(name) + SEPARATOR
            if left < 0:
                break
            names.append(name)
        models[manifest.model] = DescribedModel(
            manifest.version, manifest.input.kind, len(manifest.classes), names
        )
    return models


def make_description(source: str) -> bytes:
    """Make openapi.json from the text of openapi.yaml; aliases are expanded."""
    import yaml  # of the development environment

    return orjson.dumps(yaml.safe_load(source)) + b"\n"


if __name__ == "__main__":
    MADE.write_bytes(make_description(SOURCE.read_text(encoding="utf-8")))
    sys.stdout.write(f"{MADE.name}\n")
