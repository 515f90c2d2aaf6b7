"""What a command prints with `--json`: an envelope around its data."""

import json
from typing import Any

MEMBERS = {"schema", "command", "data", "error"}


def data_of(printed: str) -> Any:
    """The data of a command that could do its work. Fails where it is no envelope."""
    envelope = json.loads(printed)
    assert set(envelope) == MEMBERS, envelope
    assert envelope["error"] is None, envelope
    return envelope["data"]
