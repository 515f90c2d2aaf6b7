"""Pin what the tests ran with: the newest that pyproject.toml allows, into constraints.txt.

    make constraints

The pins are the ones of `make run`, `make test` and the images; a package that holdfast is
installed into by hand has its own. Nothing is installed here. A local part of a version (`+cpu`)
is left out: which build of torch it is, its index decides.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE = ROOT / "constraints.txt"
HEAD = "# Made by `make constraints`: what `make run`, `make test` and the images install.\n"


def resolve(requirements: list[str]) -> dict[str, str]:
    """Version of every package that pip would install."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    done = subprocess.run(
        [*command, "--report", "-", *requirements], check=True, stdout=subprocess.PIPE
    )
    packages = [each["metadata"] for each in json.loads(done.stdout)["install"]]
    return {re.sub(r"[-_.]+", "-", each["name"]).lower(): each["version"] for each in packages}


def main() -> None:
    """Write the file anew."""
    found = resolve([f"{ROOT}[train,dev]", "cyclonedx-python-lib>=11,<12"])
    found.pop("holdfast")
    lines = [f"{name}=={version.partition('+')[0]}\n" for name, version in sorted(found.items())]
    FILE.write_text(HEAD + "".join(lines), encoding="utf-8")
    print(f"{FILE.name}: {len(lines)} packages")


if __name__ == "__main__":
    main()
