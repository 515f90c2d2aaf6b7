"""Variables that a platform sets by itself and that only look like settings.

Kubernetes sets variables in every container for every Service of the namespace (Docker did for
links), and their names begin with the name of the Service. A Service whose name begins with
`holdfast` makes variables that look like our settings:

    HOLDFAST_SERVICE_HOST=10.0.0.1            HOLDFAST_WATCH_PORT=tcp://10.0.0.1:9108
    HOLDFAST_SERVICE_PORT_HTTP=8080           HOLDFAST_WATCH_PORT_9108_TCP_ADDR=10.0.0.1

A variable is ignored only if both its name and its value have the platform's form, so a misspelt
setting is still an error.
Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
"""

import ipaddress
import re
from collections.abc import Callable, Mapping

_NUMBER = re.compile(r"[0-9]{1,5}")
_URL = re.compile(r"(tcp|udp|sctp)://(\[[0-9A-Fa-f:.%\w]+\]|[^\s/:]+|[0-9A-Fa-f:]+):[0-9]{1,5}/?")
_PROTOCOL = re.compile(r"tcp|udp|sctp")


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _fits(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda value: pattern.fullmatch(value) is not None


_SERVICE_PORT = re.compile(r"(?P<service>\w+?)_SERVICE_PORT(_\w+)?")
# What the name ends with, and whether the value is the platform's; the first that fits counts.
_FORMS: tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...] = (
    (re.compile(r"\w*_SERVICE_HOST"), _is_address),
    (re.compile(r"\w*_PORT_[0-9]+_(TCP|UDP|SCTP)"), _fits(_URL)),
    (re.compile(r"\w*_PORT_[0-9]+_(TCP|UDP|SCTP)_PROTO"), _fits(_PROTOCOL)),
    (re.compile(r"\w*_PORT_[0-9]+_(TCP|UDP|SCTP)_PORT"), _fits(_NUMBER)),
    (re.compile(r"\w*_PORT_[0-9]+_(TCP|UDP|SCTP)_ADDR"), _is_address),
    (re.compile(r"\w*_PORT"), _fits(_URL)),
)


def without_platforms(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without those that a platform sets for services.

    >>> env = {"HOLDFAST_SERVICE_HOST": "10.0.0.1", "HOLDFAST_SERVICE_PORT": "8080"}
    >>> without_platforms({**env, "HOLDFAST_PORT": "tcp://10.0.0.1:8080", "HOLDFAST_MODE": "auto"})
    {'HOLDFAST_MODE': 'auto'}
    >>> without_platforms({"HOLDFAST_SERVICE_PORT": "8080"})  # no platform sets it alone
    {'HOLDFAST_SERVICE_PORT': '8080'}
    """
    return {name: value for name, value in env.items() if not _is_platforms(name, value, env)}


def _is_platforms(name: str, value: str, env: Mapping[str, str]) -> bool:
    if (port := _SERVICE_PORT.fullmatch(name)) is not None:
        host = env.get(f"{port['service']}_SERVICE_HOST", "")
        return _NUMBER.fullmatch(value) is not None and _is_address(host)
    return any(form.fullmatch(name) and fits(value) for form, fits in _FORMS)
