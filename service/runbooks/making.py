"""Makes `pages.json` of docs/runbooks/, so that the service shows them without the repository.

    python -m service.runbooks.making

A test fails when it is out of date. Markdown is read here, in the development environment, and by
nothing that serves.
"""

import json
import re
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "docs" / "runbooks"
MADE = Path(__file__).parent / "pages.json"
REPOSITORY = "https://github.com/holdfast/holdfast/blob/main/docs/"
INDEX = "README"


def make_pages(source: Path = SOURCE) -> dict[str, str]:
    """The body of each page as HTML, by name; the index is `README`.

    Links among runbooks stay as they are; links to other documents lead to the repository.
    """
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    pages = {}
    for path in sorted(source.glob("*.md")):
        html = markdown.render(path.read_text(encoding="utf-8"))
        html = re.sub(r'href="\.\./([^"]*)"', rf'href="{REPOSITORY}\1"', html)
        html = re.sub(r'href="(\w+)\.md(#[^"]*)?"', r'href="/runbooks/\1\2"', html)
        html = re.sub(r"<h2>([^<]*)</h2>", _with_id, html)
        pages[path.stem] = html
    return pages


def _with_id(heading: re.Match[str]) -> str:
    name = re.sub(r"\W+", "-", heading[1].lower()).strip("-")
    return f'<h2 id="{name}">{heading[1]}</h2>'


def render_pages() -> str:
    """The text of `pages.json`."""
    return json.dumps(make_pages(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    MADE.write_text(render_pages(), encoding="utf-8")
    sys.stdout.write(f"{MADE.name}\n")
