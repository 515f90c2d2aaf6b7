"""What the console's own attack does to held-out rows: flips, queries and flags.

The page's script runs in a real Chromium against a service that runs, as a person would use it:

    python -m benchmarks.console_attack http://127.0.0.1:8080
"""

import json
import re
import statistics
import sys
from typing import Any

from tests.chromium import Browser

ROWS, SIZES = 10, (0.15, 0.3)
ATTACK = """
(async () => {
  const { square } = await import('/console/page/NAME');
  const given = await (await fetch('/console/examples')).json();
  const made = [];
  for (const row of given.rows.slice(0, ROWS)) {
    const x = row.x.flat(9), index = given.classes.indexOf(row.label);
    let last = null;
    await square(given.input, x, EPS, index, (step) => { last = step; }, () => false);
    made.push({ done: last.done, flipped: last.flipped, probing: last.probing,
      drift: last.row.drift.flagged, tampered: last.row.perturbation.flagged });
  }
  return made;
})()
"""


def main(url: str) -> None:
    """Attack the first rows at each size, and print a line for each."""
    browser = Browser()
    with browser.page() as page:
        page.open(f"{url}/#try")
        page.until("document.querySelector('.strip button')", "there are held-out rows")
        name = next(m[1] for u in page.asked if (m := re.search(r"/(attack\.\w+\.js)$", u)))
        for eps in SIZES:
            script = ATTACK.replace("NAME", name).replace("EPS", str(eps))
            made: list[dict[str, Any]] = page.run(script.replace("ROWS", str(ROWS)))
            sys.stdout.write(json.dumps({"eps": eps, **summary(made)}) + "\n")
    browser.close()


def summary(made: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts over the rows; queries of those that flipped."""
    flips = [each["done"] for each in made if each["flipped"]]
    return {
        "rows": len(made),
        "flipped": len(flips),
        "median_queries_to_flip": statistics.median(flips) if flips else None,
        "flagged_drift": sum(each["drift"] for each in made),
        "flagged_tampered": sum(each["tampered"] for each in made),
        "probing_seen": sum(bool(each["probing"]) for each in made),
    }


if __name__ == "__main__":
    main(sys.argv[1])
