"""Makes docs/pictures of a console that runs: `python -m tests.console_pictures URL`.

The view Loop shows the run that promoted the champion, where there is one.
"""

import sys
import time
from pathlib import Path

import requests
from PIL import Image

from tests.chromium import Browser

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
VIEWS = {"now": "now", "loop": "loop"}
SETTLED_SECONDS = 8.0  # the history is drawn


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


if __name__ == "__main__":
    main(sys.argv[1])
