"""A real Chromium by its DevTools protocol, over a pipe: the standard library is enough.

Commands are JSON that ends with a zero byte, to file descriptor 3; answers and events come from 4.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from models.base.processes import ends_with_parent

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_SECONDS = 120.0
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--hide-scrollbars", "--remote-debugging-pipe", "--mute-audio",
    "--force-color-profile=srgb", "--disable-features=Translate,OptimizationHints,MediaRouter",
)  # fmt: skip


def find_chromium() -> str | None:
    """The program; None where it is not installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


needs_chromium = pytest.mark.skipif(
    find_chromium() is None, reason="Chromium is not installed (Debian: chromium)"
)


class Browser:
    """A running Chromium; `page` opens a tab of its own context."""

    def __init__(self, *flags: str) -> None:
        program = find_chromium()
        assert program is not None, "Chromium is not installed"
        self._folder = tempfile.mkdtemp(prefix="holdfast-chromium-")
        read_commands, self._commands = os.pipe()
        self._answers, write_answers = os.pipe()

        def place() -> None:
            ends_with_parent(9)()  # type: ignore[arg-type]
            taken = os.dup(read_commands), os.dup(write_answers)
            os.dup2(taken[0], 3)
            os.dup2(taken[1], 4)

        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={self._folder}", *flags, "about:blank"],
            preexec_fn=place, close_fds=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read_commands)
        os.close(write_answers)
        self._number = 0
        self._replies: dict[int, dict[str, Any]] = {}
        self._arrived = threading.Condition()
        self._ended = False
        self.on_event: dict[str, Callable[[str, dict[str, Any]], None]] = {}
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        """Send a command and wait for its result."""
        with self._arrived:
            self._number += 1
            number = self._number
            command = {"id": number, "method": method, "params": params}
            if session:
                command["sessionId"] = session
            os.write(self._commands, json.dumps(command).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self._arrived:
            while number not in self._replies:
                left = deadline - time.monotonic()
                assert not self._ended, f"{method}: Chromium has ended"
                assert left > 0, f"{method}: no answer of Chromium"
                self._arrived.wait(min(left, 1.0))
            reply = self._replies.pop(number)
        assert "error" not in reply, (method, reply.get("error"))
        result: dict[str, Any] = reply.get("result", {})
        return result

    def _read(self) -> None:
        rest = b""
        while chunk := os.read(self._answers, 1 << 16):
            *whole, rest = (rest + chunk).split(b"\0")
            for text in whole:
                message = json.loads(text)
                if "id" in message:
                    with self._arrived:
                        self._replies[message["id"]] = message
                        self._arrived.notify_all()
                elif (heard := self.on_event.get(message.get("sessionId", ""))) is not None:
                    heard(message["method"], message.get("params", {}))
        self._ended = True

    @contextmanager
    def page(self, **size: Any) -> Iterator["Page"]:
        """A tab in a context of its own; it is closed at the end."""
        context = self.send("Target.createBrowserContext")["browserContextId"]
        target = self.send("Target.createTarget", url="about:blank", browserContextId=context)
        session = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)[
            "sessionId"
        ]
        page = Page(self, session)
        page.resize(**{"width": 1280, "height": 900, **size})
        try:
            yield page
        finally:
            self.on_event.pop(session, None)
            with suppress(AssertionError):
                self.send("Target.disposeBrowserContext", browserContextId=context)

    def close(self) -> None:
        """End it, with its folder."""
        with suppress(AssertionError, OSError):
            self.send("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._commands)
        shutil.rmtree(self._folder, ignore_errors=True)


class Page:
    """A tab: what it loads, what it asked for, and what went wrong in it."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self.session = browser, session
        self.faults: list[str] = []  # errors of scripts, of the console, and of the policy
        self.asked: list[str] = []  # addresses
        self._passed = threading.Event()  # the virtual time that was asked for
        browser.on_event[session] = self._hear
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility", "DOM"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """A command to this tab."""
        return self._browser.send(method, self.session, **params)

    def _hear(self, method: str, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])
        elif method == "Emulation.virtualTimeBudgetExpired":
            self._passed.set()
        elif method == "Runtime.exceptionThrown":
            self.faults.append(json.dumps(params["exceptionDetails"])[:600])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.faults.append(json.dumps(params["args"])[:600])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            entry = params["entry"]
            self.faults.append(f"{entry['text']} {entry.get('url', '')}"[:600])

    def let_pass(self, seconds: float) -> None:
        """Let this much time pass for the page at once: its timers and its clock believe it.

        While it waits for an answer of a server its time stands still, and after this call, too.
        """
        self._passed.clear()
        self.send(
            "Emulation.setVirtualTimePolicy", policy="pauseIfNetworkFetchesPending",
            budget=1000 * seconds,
        )  # fmt: skip
        assert self._passed.wait(PATIENCE_SECONDS + seconds), f"{seconds} s did not pass"

    def resize(self, width: int, height: int, *, dark: bool = False, media: str = "") -> None:
        """The size of the window, the colours that its user likes, and the medium."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        wanted = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", media=media, features=wanted)

    def open(self, url: str) -> None:
        """Go to an address."""
        self.send("Page.navigate", url=url)
        self.until("document.readyState === 'complete'", f"{url} is loaded")

    def run(self, script: str) -> Any:
        """The value of an expression; promises are waited for."""
        done = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True,
            userGesture=True,
        )  # fmt: skip
        assert "exceptionDetails" not in done, json.dumps(done["exceptionDetails"])[:800]
        return done["result"].get("value")

    def until(self, script: str, what: str, seconds: float = PATIENCE_SECONDS) -> Any:
        """Wait for an expression to be true."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(f"Boolean({script})")):
            assert time.monotonic() < deadline, f"never: {what}; the page says: {self.text()[:900]}"
            time.sleep(0.05)
        return value

    def text(self) -> str:
        """What the page shows."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def press(self, key: str, code: str = "", text: str = "") -> None:
        """Press a key and let go."""
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}
            virtual = codes.get(key, ord(key.upper()) if len(key) == 1 else 0)
            self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=code or key,
                windowsVirtualKeyCode=virtual, **more,
            )  # fmt: skip

    def drag(self, points: list[tuple[float, float]]) -> None:
        """Press the mouse at the first point, move along the others, and let go."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1)]
        for kind, (x, y) in [*zip(kinds, points, strict=True), ("mouseReleased", points[-1])]:
            self.send(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1,
                clickCount=1,
            )  # fmt: skip

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """A picture of the page as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        taken = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(taken["data"]))
