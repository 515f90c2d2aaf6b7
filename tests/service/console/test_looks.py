"""Every view in every state fits its window, cuts nothing off, and names every control."""

import json
from pathlib import Path

import pytest

from tests.chromium import Browser, Page, needs_chromium
from tests.once import make_once
from tests.service.console.browsing import find_nameless
from tests.service.console.states import LOOKS, make_states, open_look, serving

pytestmark = [needs_chromium, pytest.mark.slow]
SIZES = ((1280, ""), (390, ""), (1000, "print"))
# What does not fit its own box, where the box does not scroll; and buttons whose words break.
CUT = """[...document.querySelectorAll("main *, header *")].filter((e) => {
  const style = getComputedStyle(e), box = e.getBoundingClientRect();
  if (!box.width || e.closest(".unseen, svg, .wide, .stages, pre, textarea, select")) return false;
  return box.right > innerWidth + 1 || (e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0
    && !["auto", "scroll"].includes(style.overflowX) && style.display !== "inline");
}).map((e) => `${e.tagName}.${e.className} ${e.textContent.slice(0, 40)}`)"""
OVERLAP = """[...document.querySelectorAll("main svg")].flatMap((svg) => {
  const boxes = [...svg.querySelectorAll("text")]
    .map((e) => [e.textContent, e.getBoundingClientRect()]);
  return boxes.flatMap(([a, p], k) => boxes.slice(k + 1).filter(([, q]) =>
    p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 2 && q.top < p.bottom - 2)
    .map(([b]) => `${a} / ${b}`));
})"""
# A picture of pixels has the shape of its pixels.
SQUEEZED = """[...document.querySelectorAll("main canvas")].filter((e) => {
  const box = e.getBoundingClientRect();
  return box.width && Math.abs(box.width / box.height - e.width / e.height) > 0.1;
}).map((e) => `${e.className} ${e.width} x ${e.height}: ${e.clientWidth} x ${e.clientHeight}`)"""
UNSEEN = ("now-away", "drift-away", "loop-away")
AWAY = "Failed to load resource: the server responded with a status of 503"  # of the watcher


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_once(tmp_path_factory, "looks", make_states)


def check_fits(page: Page, where: tuple[int, bool, str]) -> None:
    """Nothing is cut off, lies over another text, is squeezed, or makes the window scroll."""
    assert page.run("document.documentElement.scrollWidth - innerWidth") <= 0, where
    for found in (CUT, OVERLAP, SQUEEZED):
        assert json.loads(page.run(f"JSON.stringify({found})")) == [], where


@pytest.mark.parametrize("name", LOOKS)
def test_every_view_in_every_state_fits_and_can_be_heard(
    name: str, browser: Browser, states: Path
) -> None:
    look = LOOKS[name]
    with serving(look, states) as url, browser.page() as page:
        for width, media in SIZES:
            page.resize(width, 900, media=media)
            open_look(page, url, look)
            for dark in (False, True):  # colours alone differ: it is not opened anew
                page.resize(width, 900, dark=dark, media=media)
                check_fits(page, (width, dark, media))
        assert find_nameless(page) == []
        expected = [fault for fault in page.faults if name in UNSEEN and fault.startswith(AWAY)]
        assert page.faults == expected
