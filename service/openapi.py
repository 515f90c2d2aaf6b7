"""The description of the service: `/openapi.json` for machines, `/docs` for people.

openapi.yaml is written by hand; `python -m service.openapi` makes openapi.json of it, which stands
beside it and is what is served: a service needs no YAML. A test says when it is old.
"""

import sys
from functools import cache
from pathlib import Path

import orjson

from service.call import Call, Endpoint, Reply
from service.page_headers import page_headers

HERE = Path(__file__).parent
SOURCE = HERE / "openapi.yaml"
MADE = HERE / "openapi.json"


def endpoints() -> tuple[Endpoint, ...]:
    """The addresses of the description."""
    described = MADE.read_bytes()

    @cache  # made when somebody looks; most workers are never asked
    def page() -> Reply:
        from service.docs_page import SCRIPT, STYLE, page

        html = page(orjson.loads(described)).encode()
        headers = page_headers(scripts=[SCRIPT], styles=[STYLE])
        return Reply(html, media="text/html; charset=utf-8", headers=headers)

    def openapi(call: Call) -> Reply:
        return Reply(described)

    def docs(call: Call) -> Reply:
        return page()

    return Endpoint("GET", "/openapi.json", openapi), Endpoint("GET", "/docs", docs)


def made_of(source: str) -> bytes:
    """openapi.json for this text of openapi.yaml; aliases are written out."""
    import yaml  # of the development environment

    return orjson.dumps(yaml.safe_load(source)) + b"\n"


if __name__ == "__main__":
    MADE.write_bytes(made_of(SOURCE.read_text(encoding="utf-8")))
    sys.stdout.write(f"{MADE.name}\n")
