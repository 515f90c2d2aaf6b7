"""The runbooks as the service shows them: those of the repository, safe, and found by any link."""

import re

import pytest

from monitoring.prometheus.alerting.catalogue import ALERTS
from service.runbooks import pages
from service.runbooks.making import INDEX, MADE, make_pages, render_pages
from service.web.errors import NotFoundError


def answer(path: str) -> str:
    """What the endpoints answer to a path."""
    index, runbook = (endpoint.handler for endpoint in pages.endpoints())
    name = path.removeprefix("/runbooks/")
    reply = runbook(None, name=name) if name else index(None)
    assert reply.status == 200
    assert reply.media.startswith("text/html")
    return reply.body.decode()


def test_the_pages_are_those_of_the_repository() -> None:
    assert MADE.read_text(encoding="utf-8") == render_pages(), (
        "run `python -m service.runbooks.making`"
    )
    assert pages.read_pages().keys() == {*ALERTS, INDEX}


@pytest.mark.parametrize("name", ALERTS)
def test_the_address_in_an_alert_leads_to_its_page(name: str) -> None:
    for path in (f"/runbooks/{name}", f"/runbooks/{name}.md"):
        assert f"<h1>{name}</h1>" in answer(path)


def test_links_lead_to_pages_that_are_there_or_to_the_repository() -> None:
    for body in make_pages().values():
        for target in re.findall(r'href="([^"]*)"', body):
            name = target.removeprefix("/runbooks/").partition("#")[0]
            assert target.startswith(("https://", "#")) or name in {*ALERTS, INDEX}, target


def test_an_unknown_name_is_a_404_that_shows_no_markup() -> None:
    with pytest.raises(NotFoundError, match="lists them"):
        answer("/runbooks/<script>alert(1)</script>")


def test_a_page_needs_nothing_and_runs_nothing() -> None:
    page = answer("/runbooks/HoldfastDrift")
    assert "<script" not in page
    assert "style=" not in page
    assert not re.search(r'(src|href)="(?!/runbooks/|https://github\.com/holdfast/|#)', page)
