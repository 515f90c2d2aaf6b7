"""HTTP between our own processes, without a proxy.

`HTTP_PROXY` is for the outside world. The addresses used here are on loopback or in the cluster: a
proxy may not reach them, and should not see the answers.
"""

import urllib.request
from typing import Any

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def open_url(url: str, timeout_seconds: float) -> Any:
    """GET `url`; the caller closes the answer. Raises OSError, also for a status above 399."""
    return _OPENER.open(url, timeout=timeout_seconds)
