"""`python -m service` is `holdfast`."""

import sys

# `-m` puts the working directory first: there may be a `models.py` or a `json.py` of the user's.
if not sys.flags.safe_path and sys.path[0] != __file__.removesuffix("/service/__main__.py"):
    del sys.path[0]

from service.cli import main

main(prog_name="holdfast")
