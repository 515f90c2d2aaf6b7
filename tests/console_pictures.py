"""Makes docs/pictures of a console that runs: `python -m tests.console_pictures URL`.

The view Loop shows the run that promoted the champion, where there is one. With a folder instead of
an address it takes pictures of every view in every state there, wide, narrow, dark and printed.
"""

import sys
import tempfile
import time
from pathlib import Path

import requests
from PIL import Image

from tests.chromium import Browser
from tests.service.console.states import LOOKS, make_states, open_look, serving

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
VIEWS = {"now": "now", "loop": "loop"}
SETTLED_SECONDS = 8.0  # the history is drawn
SIZES = {
    "wide": (1280, False, ""), "narrow": (390, False, ""), "dark": (1280, True, ""),
    "print": (1000, False, "print"),
}  # fmt: skip


def main(url: str) -> None:
    """Open each view, wait until it is drawn, and take its picture."""
    browser = Browser()
    for name, view in VIEWS.items():
        with browser.page() as page:
            jobs = requests.get(f"{url}/console/jobs", timeout=10).json()
            promoted = [job["id"] for job in jobs if job["outcome"] == "promoted"]
            chosen = f"?job={promoted[0]}" if view == "loop" and promoted else ""
            page.open(f"{url}/#{view}{chosen}")
            page.until("document.querySelector('main h1')", f"{view} is drawn")
            time.sleep(SETTLED_SECONDS)
            high = int(page.run("document.documentElement.scrollHeight"))
            page.resize(1280, min(high, 1600))
            path = FOLDER / f"{name}.png"
            page.picture(path, whole=False)
        Image.open(path).quantize(128).save(path, optimize=True)
    browser.close()


def take_all(folder: Path) -> None:
    """Pictures of every look, as `NAME.wide.png` and so on, to look at."""
    browser = Browser()
    with tempfile.TemporaryDirectory() as states:
        make_states(Path(states))
        for name, look in LOOKS.items():
            for kind, (width, dark, media) in SIZES.items():
                with serving(look, Path(states)) as url, browser.page() as page:
                    page.resize(width, 900, dark=dark, media=media)
                    open_look(page, url, look)
                    time.sleep(0.5)
                    whole = not page.run("Boolean(document.querySelector('dialog[open]'))")
                    page.picture(folder / f"{name}.{kind}.png", whole=whole)
    browser.close()


if __name__ == "__main__":
    if sys.argv[1].startswith("http"):
        main(sys.argv[1])
    else:
        take_all(Path(sys.argv[1]))
