"""How the page polls: not while nobody looks, and for hours without growing."""

import time
from statistics import median

import pytest

from service.console import relay as relays
from service.console import state as documents
from tests.chromium import Browser, needs_chromium
from tests.service.console.test_page import SHOWN, VIEWS, check_quiet
from tests.service.console.watching import FakeWatcher

pytestmark = needs_chromium
HIDE = "Object.defineProperty(document, 'hidden', {get: () => %s, configurable: true});"
TOLD = "document.dispatchEvent(new Event('visibilitychange'))"


@pytest.mark.parametrize("view", ["now", "drift"])
def test_a_hidden_tab_asks_nothing(browser: Browser, url: str, view: str) -> None:
    with browser.page() as page:
        page.open(f"{url}/#{view}")
        page.until(SHOWN, "it shows something")
        page.let_pass(20)
        assert sum("/console/state" in each for each in page.asked) >= 9, "it polls while seen"
        page.run(HIDE % "true" + TOLD)
        before = len(page.asked)
        page.let_pass(600)
        assert page.asked[before:] == []
        page.run(HIDE % "false" + TOLD)
        page.let_pass(20)
        assert len(page.asked) >= before + 9


@pytest.mark.slow
def test_eight_hours_of_polling_leave_the_heap_flat(
    browser: Browser, url: str, watcher: FakeWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight hours of the page's own clock; every answer is new, every half hour all views open."""
    for module in (relays, documents):
        monkeypatch.setattr(module, "FRESH_SECONDS", 0.0)
    began, requests = time.time(), watcher.row["requests"]
    with browser.page() as page:

        def count_on() -> float:
            """The watcher's clock and counters keep up with the page's: four calls in 6 s."""
            watcher.row["requests"] = requests + 57 * len(page.asked)
            return began + 1.5 * len(page.asked)

        watcher.clock = count_on
        page.open(f"{url}/#now")
        page.until(SHOWN, "it shows something")
        measured = []
        for _ in range(16):
            for view in (*VIEWS[1:], "now"):
                page.run(f"location.hash = '{view}'")
                page.let_pass(30)
            page.let_pass(1800 - 30 * len(VIEWS))
            page.send("HeapProfiler.collectGarbage")
            heap = page.send("Runtime.getHeapUsage")["usedSize"]
            counts = page.send("Memory.getDOMCounters")
            measured.append((heap, counts["nodes"], counts["jsEventListeners"]))
        polls = sum("/console/state" in each for each in page.asked)
        assert polls > 0.9 * 8 * 3600 / 2, "it polled on"
        assert "Nothing has moved" in page.text()
        # What hangs on until the next collection differs; one node or 20 bytes a poll is seen.
        for what, most in enumerate((1.25, 2.0, 2.0)):
            first, last = (median(each[what] for each in part)
                           for part in (measured[1:5], measured[-4:]))  # fmt: skip
            assert last <= most * first, (what, measured)
        check_quiet(page, url)
