"""The page in a real Chromium, with a watcher that says what a test wants."""

import json
import re
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.base import logs
from models.versions import bundle as files
from models.versions.registry import Registry
from service.access import auth
from service.app import Application
from tests import bundles
from tests.asgi import client_of
from tests.chromium import Browser, Page, needs_chromium
from tests.service.conftest import MakeApp
from tests.service.console.browsing import find_nameless, listening
from tests.service.console.states import publish_with_examples
from tests.service.console.watching import ALARM, FakeWatcher, job_row

pytestmark = needs_chromium
VIEWS = ("now", "try", "drift", "loop", "versions", "label")
SHOWN = "document.querySelector('main').innerText.length > 30"
EXAMPLE = "document.querySelectorAll('.strip button')[2].click()"
HOSTILE = ("<img src=x onerror=document.title='taken'>", "\u202eשלום\u202c", "`code` 10^9 @{1}")


def click(page: Page, words: str) -> None:
    """Click the button or link with these words."""
    all_, wanted = "[...document.querySelectorAll('button,a')]", json.dumps(words)
    found = f"{all_}.find(e => e.innerText.includes({wanted}))"
    page.until(found, f"there is a button {words!r}")
    page.run(f"{found}.click()")


def tab_to(page: Page, wanted: str) -> list[str]:
    """Press Tab until the focus is on what a selector names; the words on the way."""
    words = []
    for _ in range(80):
        page.press("Tab")
        if page.run(f"document.activeElement.matches({json.dumps(wanted)})"):
            return words
        words.append(page.run("document.activeElement.textContent"))
    raise AssertionError(f"no Tab leads to {wanted}: {words}")


def check_quiet(page: Page, url: str) -> None:
    """Nothing went wrong in the page, and it asked nobody else."""
    assert page.faults == []
    assert [each for each in page.asked if not each.startswith((url, "data:", "blob:"))] == []


def test_every_view_opens_without_a_fault_and_fits_wide_and_narrow_screens(
    browser: Browser, url: str, watcher: FakeWatcher
) -> None:
    watcher.row |= {**ALARM, "alarm_since": time.time() - 240}
    watcher.jobs = [job_row(challenger=3)]
    with browser.page() as page:
        page.open(f"{url}/")
        for width, dark, media in ((1280, False, ""), (390, True, ""), (1000, False, "print")):
            page.resize(width, 900, dark=dark, media=media)
            for view in VIEWS:
                page.run(f"location.hash = '{view}'")
                page.until(SHOWN, f"{view} shows something")
                wide = page.run("document.documentElement.scrollWidth - innerWidth")
                assert wide <= 0, (view, width, media)
        check_quiet(page, url)


def test_a_drawing_is_answered_as_predict_answers_and_leaves_no_trace(
    browser: Browser, url: str, app: Application
) -> None:
    with browser.page() as page:
        page.open(f"{url}/#try")
        page.until("document.querySelector('canvas.pad')", "there is a canvas")
        pad = "document.querySelector('canvas.pad').getBoundingClientRect()"
        x, y, size = page.run(f"(r => [r.x, r.y, r.width])({pad})")
        page.drag([(x + size * a, y + size * b) for a, b in ((0.5, 0.1), (0.5, 0.5), (0.5, 0.9))])
        page.until("document.querySelector('.said .class')", "the answer is there")
        shown = page.run("document.querySelector('.said .class').innerText")
        click(page, "JSON")
        drawn = json.loads(page.run("document.querySelector('textarea').value"))
        assert max(max(row) for row in drawn[0]) > 8
        assert app.service.store is not None
        assert app.service.store.counts("digits").requests == 0
        plain = client_of(app).post("/predict", json={"instances": [drawn]}).get_json()
        assert shown == plain["predictions"][0]["label"]
        check_quiet(page, url)


def test_an_attack_runs_on_the_page_can_be_stopped_and_counts_nowhere(
    browser: Browser, url: str, app: Application
) -> None:
    def read_counts() -> list[str]:
        lines = client_of(app).get("/metrics").text.splitlines()
        return [
            each for each in lines if re.match(r"holdfast_(predictions|cell_obs|queries)", each)
        ]

    before = read_counts()
    assert any("cell_observations" in each for each in before)
    with browser.page() as page:
        page.open(f"{url}/#try")
        page.until("document.querySelector('.strip button')", "there are examples")
        page.run(EXAMPLE)
        click(page, "Attack with")
        page.until("document.querySelector('.shots')", "the attack shows what it does")
        page.run("document.querySelector('section button.main').click()")  # Stop, or it is over
        page.until("document.body.innerText.includes('Attack with')", "it stopped")
        assert read_counts() == before
        assert app.service.store is not None
        assert app.service.store.counts("digits").requests == 0
        check_quiet(page, url)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"row": {"requests": 12}}, "Too early to say."),
        ({"row": {"accuracy": None}}, "Nobody has told it"),
        ({"row": {**ALARM, "alarm_since": 1.0}}, "The world moved"),
        ({"row": {"problems": [{"problem": "records", "detail": "it is away"}]}}, "It is away."),
        ({"row": {"hold": {"actor": "ada", "reason": "audit week"}}}, "audit week"),
        (
            {"row": {**ALARM, "waits": [{"reason": "cool_down", "sentence": "it rests"}]}},
            "It rests.",
        ),
        (
            {"row": {"services": [{"service": "s", "status": "refused", "detail": "no"}]}},
            "The watcher sees no counters.",
        ),
        ({"jobs": [job_row()]}, "waits for your word"),
    ],
)
def test_every_state_has_its_words(
    change: dict[str, Any], words: str, browser: Browser, url: str, watcher: FakeWatcher
) -> None:
    watcher.row |= change.get("row", {})
    watcher.jobs = change.get("jobs", [])
    with browser.page() as page:
        page.open(f"{url}/#now")
        page.until(f"document.body.innerText.includes({json.dumps(words)})", words)
        check_quiet(page, url)


def test_a_watcher_or_a_service_that_goes_away_is_said_and_old_figures_stay(
    browser: Browser, app: Application, watcher: FakeWatcher
) -> None:
    with browser.page() as page, listening(app) as url:
        page.open(f"{url}/#now")
        page.until("document.body.innerText.includes('Nothing has moved')", "it is calm")
        watcher.close()
        page.until("document.body.innerText.includes('nobody watches')", "the watcher is away")
        page.run("window.fetch = () => Promise.reject(new TypeError('no'))")  # as without a network
        page.until("document.body.innerText.includes('has not answered for')", "nobody answers")
        assert page.run("document.body.classList.contains('stale')")
        assert "nobody watches" in page.text()


def test_an_approval_takes_a_reason_sends_what_was_seen_and_shows_a_refusal(
    browser: Browser, url: str, watcher: FakeWatcher
) -> None:
    watcher.jobs = [job_row(champion=2, challenger=3)]
    watcher.refusal = (409, {"detail": "version 2 was the champion that you saw; ada promoted 4"})
    with browser.page() as page:
        page.open(f"{url}/#now")
        click(page, "Approve …")
        page.until("document.querySelector('dialog[open]')", "it asks first")
        assert "Promote version 3 of digits?" in page.text()
        click(page, "Approve version 3 of digits")
        assert watcher.sent == [], "a reason is required"
        page.run("document.getElementById('why').value = 'better on the window'")
        click(page, "Approve version 3 of digits")
        page.until("document.body.innerText.includes('ada promoted 4')", "the refusal is shown")
        watcher.refusal = None
        click(page, "Approve version 3 of digits")
        page.until("document.body.innerText.includes('Done.')", "it was done")
        path, body, _ = watcher.sent[-1]
        assert path == "/jobs/20260101-000000-abc123/approve"
        assert body == {"reason": "better on the window", "expected": 2}


def test_hostile_names_are_shown_as_text(
    browser: Browser, make_app: MakeApp, tmp_path: Path, watcher: FakeWatcher
) -> None:
    bundles.publish(tmp_path / "registry")
    registry = Registry(tmp_path / "registry")
    bundle = registry.open("digits", "1")
    contents = {name: bundle.read(name) for name in (files.MODEL, files.REFERENCE)}
    classes = (*HOSTILE, *bundle.manifest.classes[len(HOSTILE) :])

    def make(version: int) -> Any:
        return contents, msgspec.structs.replace(bundle.manifest, version=version, classes=classes)

    registry.publish("digits", make, actor=HOSTILE[0], reason=HOSTILE[1])
    registry.promote("digits", 2, expected=1, actor=HOSTILE[0], reason=HOSTILE[0])
    app = make_app(tmp_path, watch_url=watcher.url)
    client = client_of(app)
    for row in bundles.digits().test.x[:20]:
        client.post("/predict", json={"instances": [row.tolist()]})
    assert app.service.writer is not None
    app.service.writer.close()
    with listening(app) as url, browser.page() as page:
        for view in ("label", "now", "loop"):
            page.open(f"{url}/#{view}")
            page.until("document.body.innerText.includes('<img src=x')", view)
            assert page.run("document.querySelectorAll('main img').length") == 0
        page.open(f"{url}/#label")
        page.until("document.querySelector('.digits')", "there is a row to label")
        assert page.run("document.querySelectorAll('.digits bdi').length") == len(classes)
        assert page.run("document.title") == "Label · Holdfast"
        for key, view in (("d", "drift"), ("b", "label"), ("f", "label"), ("n", "now")):
            page.press("g", "KeyG", "g")
            page.press(key, f"Key{key.upper()}", key)
            page.until(f"location.hash === '#{view}'", f"G {key} goes to {view}, or nowhere")
            page.until("document.querySelector('main h1')", f"{view} shows something")
        assert [each for each in page.asked if "/feedback" in each] == [], "a jump is no label"
        page.run("location.hash = 'label'")
        page.until("document.querySelector('.digits')", "there is a row to label")
        page.press("c", "KeyC", "c")
        page.until("document.body.innerText.includes('you said')", "the letter of a class is one")
        assert [each for each in page.asked if "/feedback" in each] != []
        check_quiet(page, url)


def test_a_token_opens_inputs_and_stays_in_memory_alone(
    browser: Browser, make_app: MakeApp, tmp_path: Path, watcher: FakeWatcher,
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    publish_with_examples(tmp_path / "registry")
    secret = auth.create(tmp_path / "tokens.json", "ada", ("admin",))
    lines: list[bytes] = []
    monkeypatch.setattr(logs, "write", lines.append)
    app = make_app(tmp_path, watch_url=watcher.url, access_log="all")
    with listening(app) as url, browser.page() as page:
        page.open(f"{url}/#try")
        page.until("document.getElementById('token-field')", "it asks for a token")
        page.run(f"document.getElementById('token-field').value = '{secret}'")
        click(page, "Use it")
        page.until("document.querySelector('.strip button')", "examples are shown")
        kept = page.run("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
        assert kept == '[{},{},""]'
        assert all(secret not in each for each in page.asked)
        assert secret not in page.run("document.documentElement.outerHTML")
        page.open("about:blank")
        page.open(f"{url}/#try")
        page.until("document.getElementById('token-field')", "after a reload it is gone")
        check_quiet(page, url)
        logged = "".join((*capfd.readouterr(), *map(bytes.decode, lines)))
        assert "/console/examples" in logged, "every call is in the log"
        assert secret not in logged


def test_where_a_token_is_needed_a_report_is_fetched_with_it_and_saved(
    browser: Browser, make_app: MakeApp, tmp_path: Path, watcher: FakeWatcher
) -> None:
    bundles.publish(tmp_path / "registry")
    registry = Registry(tmp_path / "registry")
    bundle = registry.open("digits", "1")
    contents = {name: bundle.read(name) for name in (files.MODEL, files.REFERENCE)}
    contents["report.html"] = b"<h1>report</h1>"

    def make(version: int) -> Any:
        return contents, msgspec.structs.replace(bundle.manifest, version=version)

    registry.publish("digits", make, actor="test", reason="test")
    secret = auth.create(tmp_path / "tokens.json", "ada", ("admin",))
    app = make_app(tmp_path, watch_url=watcher.url)
    with listening(app) as url, browser.page() as page:
        page.open(f"{url}/#versions")
        page.until("document.body.innerText.includes('needs a token')", "no link that is dead")
        assert page.run("document.querySelector('a[href*=report]')") is None
        page.run("location.hash = 'try'")
        page.until("document.getElementById('token-field')", "it asks for a token")
        page.run(f"document.getElementById('token-field').value = '{secret}'")
        click(page, "Use it")
        page.run("location.hash = 'versions'")
        page.run(
            "const made = URL.createObjectURL; URL.createObjectURL = (blob) => {"
            "blob.text().then((text) => { window.saved = text; }); return made(blob); };"
            "HTMLAnchorElement.prototype.click = function () { window.as = this.download; };"
        )
        click(page, "Save report")
        page.until("window.saved === '<h1>report</h1>'", "it is fetched")
        page.until("window.as === 'report-digits-2.html'", "and saved")
        check_quiet(page, url)


def test_the_keyboard_alone_reaches_every_view_and_paints(browser: Browser, url: str) -> None:
    with browser.page() as page:
        page.open(f"{url}/#now")
        page.until(SHOWN, "it shows something")
        for key, view in (("t", "try"), ("d", "drift"), ("l", "loop"), ("v", "versions"),
                          ("b", "label"), ("n", "now")):  # fmt: skip
            page.press("g", "KeyG", "g")
            page.press(key, f"Key{key.upper()}", key)
            page.until(f"location.hash.startsWith('#{view}')", f"G {key} goes to {view}")
        page.press("?", "Slash", "?")
        page.until("document.querySelector('dialog[open]')", "? lists the keys")
        page.press("Escape")
        page.press("g", "KeyG", "g")
        page.press("t", "KeyT", "t")
        page.until("document.querySelector('canvas.pad')", "there is a canvas")
        reached = tab_to(page, "canvas.pad")
        assert {"Draw", "Upload", "JSON"} <= set(reached), "tabs come before the canvas"
        page.press("ArrowDown")
        page.press(" ", "Space", " ")
        page.until("document.querySelector('.said .class')", "what was painted is asked")
        assert "Ask" in tab_to(page, ".strip button")
        page.press("Enter", "Enter", "\r")
        page.until("document.querySelector('#eps')", "a held-out row can be attacked")
        tab_to(page, "#eps")
        before = float(page.run("document.querySelector('#eps').value"))
        page.press("ArrowRight")
        assert float(page.run("document.querySelector('#eps').value")) > before
        check_quiet(page, url)


def test_every_control_has_a_name_for_a_screen_reader(
    browser: Browser, url: str, watcher: FakeWatcher
) -> None:
    watcher.jobs = [job_row(challenger=3)]
    with browser.page() as page:
        for view in VIEWS:
            page.open(f"{url}/#{view}")
            page.until(SHOWN, f"{view} shows something")
            if view == "try":
                page.until("document.querySelector('.strip button')", "there are examples")
                page.run(EXAMPLE)
                page.until("document.querySelector('#eps')", "there is an attack")
            assert find_nameless(page) == [], view
        page.run("document.querySelector('main').append(document.createElement('button'))")
        assert find_nameless(page) == ["button"], "one without a name is found"
