"""What an on-call person reads: `/runbooks/` and a page for each alert.

They are in the service so that the link in an alert works where nothing else can be reached.
"""

from functools import cache
from pathlib import Path

import orjson
from markupsafe import Markup

from service.web.call import Call, Endpoint
from service.web.errors import NotFoundError
from service.web.page_headers import page_headers
from service.web.reply import Reply

MADE = Path(__file__).parent / "pages.json"
INDEX = "README"
STYLE = """
:root { color-scheme: light dark; --ink: #1a1a17; --ground: #fdfcf8; --line: #d8d5c8; --code: #f1efe6; --link: #1f5fa8; }
@media (prefers-color-scheme: dark) { :root { --ink: #ecebe4; --ground: #171714; --line: #3b3a34; --code: #24231e; --link: #8ab8ee; } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--ground); margin: 0 auto; max-width: 46rem; padding: 1.5rem 1rem 4rem; }
h1 { font: 600 1.9rem/1.2 Georgia, serif; margin: .6rem 0 1rem; overflow-wrap: anywhere; }
h2 { font: 600 1.15rem/1.3 Georgia, serif; margin: 1.8rem 0 .4rem; }
a { color: var(--link); }
pre, code { font: .875rem/1.5 ui-monospace, monospace; background: var(--code); border-radius: 4px; }
code { padding: .1em .3em; overflow-wrap: anywhere; }
pre { padding: .7rem .9rem; overflow-x: auto; border: 1px solid var(--line); }
pre code { padding: 0; overflow-wrap: normal; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line); }
"""  # noqa: E501
PAGE = Markup(
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    "<title>{title} · Holdfast runbook</title><style>{style}</style></head>"
    '<body><nav><a href="/runbooks/">All runbooks</a></nav><main>{body}</main></body></html>\n'
)


@cache
def read_pages() -> dict[str, str]:
    """The bodies of the pages, by name."""
    pages: dict[str, str] = orjson.loads(MADE.read_bytes())
    return pages


def endpoints() -> tuple[Endpoint, ...]:
    """Return the endpoints."""
    headers = page_headers(styles=[STYLE])

    def show(name: str) -> Reply:
        body = read_pages().get(name)
        if body is None:
            raise NotFoundError(f"no runbook {ascii(name)[:80]}; /runbooks/ lists them")
        title = "Runbooks" if name == INDEX else name
        html = PAGE.format(title=title, style=Markup(STYLE), body=Markup(body))
        return Reply(html.encode(), media="text/html; charset=utf-8", headers=headers)

    def index(call: Call) -> Reply:
        return show(INDEX)

    def runbook(call: Call, name: str) -> Reply:
        return show(name.removesuffix(".md"))

    return (
        Endpoint("GET", "/runbooks/", index),
        Endpoint("GET", "/runbooks/<name>", runbook),
    )
