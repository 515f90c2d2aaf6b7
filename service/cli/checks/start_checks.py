"""What a command looks at before it starts: files, names and packages that the settings speak of.

All faults are told at once, and before a long training or a port is bound. `holdfast doctor` shows
the same checks, those that went well as well.
"""

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from models.base.errors import HoldfastError
from service.access import auth, certificates
from service.configuration.addresses import AddressError, listen_address
from service.configuration.checks import hide_password
from service.configuration.settings import Settings
from service.configuration.values import collect
from service.telemetry import asked, tracing
from service.telemetry import metrics as telemetry
from service.web.errors import SettingsError, raise_faults

Part = Literal["service", "watcher"]


class Checked(NamedTuple):
    """The check of one setting: its name, what was found, and the fault if there is one."""

    name: str
    parts: tuple[Part, ...]
    detail: str
    fault: SettingsError | None


def check_start(settings: Settings, *parts: Part) -> None:
    """Refuse to start these parts with settings that cannot work.

    Raises:
        SettingsError: one setting cannot be used; ManySettingsError where several cannot.
    """
    faults = [
        each.fault
        for each in look(settings)
        if each.fault is not None and set(each.parts) & set(parts)
    ]
    if "service" in parts:
        faults += grpc_faults(settings)
    if set(parts) >= {"service", "watcher"}:
        collect(faults, lambda: check_ports(settings), None)
    raise_faults(faults)


def check_ports(settings: Settings) -> None:
    """Raise SettingsError where service and watcher on one machine would want the same port."""
    everywhere = {"0.0.0.0", "::"}
    hosts = {settings.host, settings.watch_host}
    taken = {settings.grpc_port: "of gRPC", settings.port: "the service's"}
    whose = taken.get(settings.watch_port)
    if whose is not None and (len(hosts) == 1 or hosts & everywhere):
        expected = f"another port than {whose} ({settings.watch_port})"
        raise SettingsError("watch_port", expected, str(settings.watch_port))


def grpc_faults(settings: Settings) -> Iterator[SettingsError]:
    """Yield what does not go together of gRPC's port and files, and files that are not for TLS."""
    cert, key = settings.grpc_cert_file, settings.grpc_key_file
    if not settings.grpc_port:
        return
    if settings.grpc_port == settings.port:
        expected = f"another port than the service's ({settings.port})"
        yield SettingsError("grpc_port", expected, str(settings.grpc_port))
    if cert and not key:
        yield SettingsError("grpc_key_file", "a file, as grpc_cert_file has one", "none")
    if not cert and (key or settings.grpc_client_ca_file):
        expected = "a file: without a certificate there is no TLS"
        yield SettingsError("grpc_cert_file", expected, "none")
    files = (cert, key, settings.grpc_client_ca_file)
    if cert and key and all(os.access(path, os.R_OK) for path in files if path):
        for name, expected, got in certificates.find_faults(*files):
            yield SettingsError(f"grpc_{name}_file", expected, got)


def look(settings: Settings) -> Iterator[Checked]:
    """Check the hosts, the database's driver, and every setting that names a file."""
    both: tuple[Part, ...] = ("service", "watcher")
    hosts: tuple[tuple[str, Part], ...] = (("host", "service"), ("watch_host", "watcher"))
    for name, part in hosts:
        yield _check_setting(settings, name, (part,), _listen)
    yield _check_setting(settings, "database_url", both, _driver)
    rows: tuple[tuple[str, tuple[Part, ...], Callable[[Any], str]], ...] = (
        ("tokens_file", ("service",), _tokens),
        ("admin_token_file", both, _secret),
        ("alert_token_file", ("watcher",), _secret),
        ("trusted_keys", both, _public_keys),
        ("signing_key_file", ("watcher",), _private_key),
        ("grpc_port", ("service",), _grpc),
        ("grpc_cert_file", ("service",), _readable),
        ("grpc_key_file", ("service",), _readable),
        ("grpc_client_ca_file", ("service",), _readable),
    )
    for name, parts, check in rows:
        if getattr(settings, name):
            yield _check_setting(settings, name, parts, check)
    yield from _check_telemetry(settings, both)


def _check_telemetry(settings: Settings, both: tuple[Part, ...]) -> Iterator[Checked]:
    """Check what is sent by OTLP, also where only OpenTelemetry's own variables ask for it."""
    try:
        collector = tracing.find_collector(settings.trace_endpoint, os.environ)
        if collector is not None:
            asked.need_exporter(collector.named_by)
            yield Checked(collector.named_by, ("service",), collector.address, None)
    except SettingsError as error:
        yield Checked(error.name, ("service",), str(error), error)
    try:
        if telemetry.read_wanted(os.environ) is not None:
            asked.need_exporter(telemetry.EXPORTER)
            yield Checked(telemetry.EXPORTER, both, os.environ[telemetry.EXPORTER], None)
    except SettingsError as error:
        yield Checked(error.name, both, str(error), error)


def _check_setting(
    settings: Settings, name: str, parts: tuple[Part, ...], check: Callable[[Any], str]
) -> Checked:
    """Check one setting; `check` returns what was found, or raises."""
    value = getattr(settings, name)
    try:
        return Checked(name, parts, check(value), None)
    except (SettingsError, AddressError) as error:
        fault = SettingsError(name, error.expected, error.got)
    except UnicodeDecodeError:
        fault = SettingsError(name, "a file of text in UTF-8", str(value))
    except HoldfastError as error:
        fault = SettingsError(name, "a file that can be used", str(error))
    return Checked(name, parts, str(fault), fault)


def _listen(host: str) -> str:
    address = listen_address(host)
    return host if address == host else f"{host} ({address})"


def _tokens(path: str) -> str:
    return f"{path}: {len(auth.read(Path(path)))} tokens"


def _secret(path: str) -> str:
    auth.secret_of(path)
    return f"{path}: a token"


def _public_keys(path: str) -> str:
    from models.versions.signature import Keys

    return f"{path}: {Keys(trusted=path).count_trusted()} public keys"


def _private_key(path: str) -> str:
    from models.versions.signature import Keys

    Keys(signing=path).signature(b"")
    return f"{path}: a private key"


def _driver(url: str) -> str:
    """Check that SQLAlchemy accepts the URL and has its driver, without connecting."""
    from sqlalchemy.exc import SQLAlchemyError

    from monitoring.records.database import StoreError, engine_url

    try:
        engine_url(url).get_dialect().import_dbapi()
    except ImportError as error:
        expected = "a database whose driver is there (PostgreSQL: pip install 'holdfast[postgres]')"
        raise SettingsError("database_url", expected, str(error)) from None
    except StoreError as error:
        expected = "a URL whose password_file can be read"
        raise SettingsError("database_url", expected, str(error)) from None
    except (SQLAlchemyError, ValueError):  # their text may hold the password
        expected = "a URL that SQLAlchemy reads"
        raise SettingsError("database_url", expected, hide_password(url)) from None
    return hide_password(url)


def _grpc(port: int) -> str:
    try:
        importlib.import_module("grpc.aio")
        importlib.import_module("google.protobuf")
    except ImportError as error:
        expected = "0, or the extra: pip install 'holdfast[grpc]'"
        raise SettingsError("grpc_port", expected, str(error)) from None
    return str(port)


def _readable(path: str) -> str:
    try:
        size = len(Path(path).read_bytes())
    except OSError as error:
        raise SettingsError("", "a readable file", f"{path}: {error.strerror}") from None
    return f"{path}: {size} bytes"
