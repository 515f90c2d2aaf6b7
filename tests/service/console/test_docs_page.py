"""The reference page: whole in itself, complete, and nothing in it is markup that is not ours."""

import copy
import json
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.console.docs_page import SCRIPT, STYLE, page
from service.console.docs_text import pretty
from tests.service.described import DESCRIPTION, operations

VOID = {"meta", "link", "input", "wbr", "br"}


class Page(HTMLParser):
    """Elements that are closed as they were opened, ids, and where links lead."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: Counter[str] = Counter()
        self.links: set[str] = set()
        self.loaded: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            assert not name.startswith("on"), "a handler that no policy lets run"
            assert name != "style"
            if name == "id":
                self.ids[value or ""] += 1
            elif name == "href" and tag == "a":
                self.links.add(value or "")
            elif name in ("src", "href", "action", "srcset"):
                self.loaded.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def made() -> Page:
    return Page(page(DESCRIPTION))


def test_elements_are_nested_and_ids_are_unique(made: Page) -> None:
    assert made.open == []
    assert {name: n for name, n in made.ids.items() if n > 1} == {}


def test_nothing_is_loaded_from_elsewhere(made: Page) -> None:
    assert made.loaded == ["data:,"]
    assert not re.search(r"url\(|@import|https?:", STYLE)
    assert re.findall(r"https?://[^\"]*", SCRIPT) == ["http://127.0.0.1:8080"]


def test_every_link_leads_somewhere(made: Page) -> None:
    assert {link for link in made.links if link[1:] not in made.ids} == {"openapi.json"}


def test_every_call_and_every_status_of_it_stands_there(made: Page) -> None:
    for method, path, operation in operations():
        assert operation["operationId"] in made.ids
        assert f"{method}{path}" in made.text
        assert operation["summary"] in made.text
    statuses = sum(len(operation["responses"]) for _, _, operation in operations())
    assert len(re.findall(r'<b class="s\d">', page(DESCRIPTION))) == statuses


def test_every_schema_of_more_than_a_word_has_a_section(made: Page) -> None:
    for name, schema in DESCRIPTION["components"]["schemas"].items():
        if "properties" in schema or schema.get("anyOf"):
            assert f"schema-{name}" in made.ids


def test_its_style_and_script_are_those_that_its_policy_names(client: FlaskClient) -> None:
    answer = client.get("/docs")
    assert f"<style>{STYLE}</style>" in answer.text
    assert f"<script>{SCRIPT}</script>" in answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert len(re.findall("sha256-", policy)) == 2
    assert "unsafe" not in policy


def test_texts_of_the_description_are_escaped() -> None:
    evil: dict[str, Any] = copy.deepcopy(DESCRIPTION)
    evil["info"]["description"] = "`<script>` **<b>** <img src=x>"
    evil["paths"]["/predict"]["post"]["summary"] = "<i>"
    evil["components"]["examples"]["Digit"]["value"] = {"</script>": "<u>"}
    html = page(evil)
    for tag in ("<img", "<i>", "<u>", "<strong><b>"):
        assert tag not in html
    assert html.count("</script>") == 1


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {"a": []},
        [[1.5, None], "é"],
        {"k": list(range(99))},
        {"n" * 9: [{"m": [8] * 9}] * 3},
    ],
)
def test_pretty_is_the_same_json(value: Any) -> None:
    assert json.loads(pretty(value)) == value
    assert max(map(len, pretty(value).splitlines())) <= 50
