"""Checks of text settings that need nothing from the machine.

Each check returns the text as it is used (a host without brackets, a URL without a slash at its
end), or raises SettingsError. Checks that read files, resolve names or look for packages are in
`start_checks`.
"""

import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from models.base.errors import InputError
from monitoring.records.keeping.limits import (
    ModelLimits,
    Sample,
    parse_model_limits,
    parse_sample,
)
from service.configuration.addresses import AddressError, read_host, read_url
from service.configuration.model_specs import parse_models
from service.configuration.proxies import Proxies
from service.web.errors import SettingsError
from service.web.origins import parse_hosts, parse_origins

TOKEN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # as `service.access.auth` has it
DATABASES = "sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME"


def check_limits(text: str) -> Mapping[str, ModelLimits]:
    """Read the limits of single models' records. Raises SettingsError."""
    try:
        return parse_model_limits(text)
    except InputError as error:
        raise SettingsError(error.field, error.expected, error.got) from None


def check_sample(text: str) -> Sample:
    """Read which requests are recorded. Raises SettingsError."""
    try:
        return parse_sample(text)
    except InputError as error:
        raise SettingsError(error.field, error.expected, error.got) from None


def check_schedule(line: str, zone: str) -> None:
    """Check the cron line in its time zone.

    Raises:
        SettingsError: it is not valid, never due, or the system's zone is unknown.
    """
    if not line.strip():
        return
    from models.base.schedule import ScheduleError, Timetable, read_zone  # most set no schedule

    try:
        read_zone(zone)
    except ScheduleError as error:
        raise SettingsError("timezone", error.expected, error.got) from None
    try:
        Timetable(line, zone)
    except ScheduleError as error:
        raise SettingsError("schedule", error.expected, error.got) from None


def hide_password(url: str) -> str:
    """A URL without its password.

    >>> hide_password("postgresql://me:secret@db/h"), hide_password("sqlite:////records.sqlite")
    ('postgresql://me:***@db/h', 'sqlite:////records.sqlite')
    """
    hidden_user = re.sub(r"(?<=://)([^/@:]*):[^@]*@", r"\1:***@", url)
    return re.sub(r"(?<=password=)[^&]*", "***", hidden_user)


def _directory(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise SettingsError("state", "the path of a directory", repr(text)[:60])
    try:
        kind = Path(text).stat().st_mode
    except FileNotFoundError:
        return text  # it is made
    except OSError as error:
        reason = f"{text[:60]!r}: {error.strerror}"
        raise SettingsError("state", "the path of a directory", reason) from None
    if not stat.S_ISDIR(kind):
        raise SettingsError("state", "the path of a directory", f"a file ({text[:60]!r})")
    return text


def _host(name: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        try:
            return read_host(text)
        except AddressError as error:
            raise SettingsError(name, error.expected, error.got) from None

    return check


def _url(name: str, text: str) -> str:
    try:
        read_url(text)
    except AddressError as error:
        raise SettingsError(name, error.expected, error.got) from None
    return text.strip().rstrip("/")


def _services(text: str) -> str:
    """Check one URL or several, comma-separated."""
    urls = [part for part in text.split(",") if part.strip()]
    return ",".join(_url("service_url", part) for part in urls)


def _watcher(text: str) -> str:
    return _url("watch_url", text) if text.strip() else ""


def _prometheus(text: str) -> str:
    return _url("prometheus_url", text) if text.strip() else ""


def _collector(text: str) -> str:
    return _url("trace_endpoint", text) if text.strip() else ""


def _database(text: str) -> str:
    text = text.strip()
    scheme, _, rest = text.partition("://")
    kind = scheme.partition("+")[0]
    if not text or (kind == "postgresql" and rest):
        return text
    if kind == "sqlite" and rest.startswith("/") and rest[1:].partition("?")[0] not in (
        "", ":memory:",
    ):  # fmt: skip
        return text
    hint = " (postgres:// is spelt postgresql:// here)" if kind == "postgres" else ""
    raise SettingsError("database_url", DATABASES + hint, repr(hide_password(text))[:60])


def _zone(text: str) -> str:
    if not text.strip():
        return ""
    from models.base.schedule import ScheduleError, read_zone

    try:
        read_zone(text)
    except ScheduleError as error:
        raise SettingsError("timezone", error.expected, error.got) from None
    return text.strip()


def _names(name: str) -> Callable[[str], str]:
    """Check names of tokens, comma-separated."""

    def check(text: str) -> str:
        parts = [part.strip() for part in text.split(",")] if text.strip() else []
        odd = next((p for p in parts if not TOKEN_NAME.fullmatch(p)), None)
        if odd is not None:
            raise SettingsError(name, "names of tokens, comma-separated", repr(odd))
        return ",".join(parts)

    return check


def _make_check(parse: Callable[[str], object]) -> Callable[[str], str]:
    """Make a check that returns the text unchanged where `parse` accepts it."""

    def check(text: str) -> str:
        parse(text)
        return text

    return check


def _path(name: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if "\0" in text or (text and not text.strip()):
            raise SettingsError(name, "the path of a file, or nothing", repr(text)[:60])
        return text

    return check


CHECKS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "state": _directory,
        "host": _host("host"),
        "watch_host": _host("watch_host"),
        "models": _make_check(parse_models),
        "trusted_labellers": _names("trusted_labellers"),
        "service_url": _services,
        "prometheus_url": _prometheus,
        "watch_url": _watcher,
        "database_url": _database,
        "trusted_proxies": _make_check(Proxies),
        "allowed_hosts": _make_check(parse_hosts),
        "allowed_origins": _make_check(parse_origins),
        "timezone": _zone,
        "trace_endpoint": _collector,
        **{
            name: _path(name)
            for name in (
                "tokens_file", "admin_token_file", "alert_token_file", "trusted_keys",
                "signing_key_file", "grpc_cert_file", "grpc_key_file", "grpc_client_ca_file",
            )
        },
    }
)  # fmt: skip
# What is checked beside another setting: by `check_schedule` and `model_specs.parse_limits`.
TOGETHER = ("schedule", "model_limits")
