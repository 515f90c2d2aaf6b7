"""Which version of the program runs."""

from importlib import metadata


def program_version() -> str:
    """Return the version of the installed distribution; `0` where it is not installed."""
    try:
        return metadata.version("holdfast")
    except metadata.PackageNotFoundError:
        return "0"
