"""Disk space for the files in which workers count.

The client library makes them sparse and maps them. On a disk that has become full, the first count
on a page that has no space yet is a SIGBUS: the worker dies, and so does every one after it.
"""

import os
from pathlib import Path

KINDS = ("counter", "gauge_max", "histogram")
BYTES = 1 << 20  # of each file; 5 models with 10 channels take about half of it


def allocate(directory: Path, slot: int) -> None:
    """Give the files of a worker's slot their space, before the library opens them.

    Raises:
        OSError: there is none; then the worker had better count for itself alone.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        with (directory / f"{kind}_{slot}.db").open("ab") as stream:
            os.posix_fallocate(stream.fileno(), 0, BYTES)
