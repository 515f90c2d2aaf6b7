"""HTTP between our own processes: straight there, whatever proxy the environment names.

`HTTP_PROXY` is for the world outside. The addresses asked here are loopback or a cluster's own: a
proxy need not reach them, and what they answer is not for it.
"""

import urllib.request
from typing import Any

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def open_url(url: str, timeout_seconds: float) -> Any:
    """The answer to a GET of `url`, to be closed. Raises OSError, also for a status above 399."""
    return _OPENER.open(url, timeout=timeout_seconds)
