"""What OpenTelemetry's own variables ask for, of traces and of metrics alike."""

import importlib
from collections.abc import Mapping
from typing import Literal

from service.web.errors import SettingsError

EXPORTER_MODULE = "opentelemetry.exporter.otlp.proto.http"


def is_disabled(environ: Mapping[str, str]) -> bool:
    """Whether `OTEL_SDK_DISABLED` takes everything back."""
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def check_protocol(environ: Mapping[str, str], signal: Literal["TRACES", "METRICS"]) -> None:
    """Check the protocol that is asked for; the signal's own variable counts before the common one.

    Raises:
        SettingsError: it is another one than `http/protobuf`, the only one that is spoken here.
    """
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if protocol := environ.get(name, "").strip():
            if protocol != "http/protobuf":
                raise SettingsError(name, "http/protobuf", protocol)
            return


def need_exporter(name: str) -> None:
    """Check that the extra `tracing` is there.

    Args:
        name: of the setting or the variable that needs it.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        importlib.import_module(EXPORTER_MODULE)
    except ImportError as error:
        expected = "nothing, or the extra: pip install 'holdfast[tracing]'"
        raise SettingsError(name, expected, str(error)) from error
