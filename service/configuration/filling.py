"""Settings that follow from other settings and from the machine."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from service.configuration import sizing
from service.configuration.addresses import near, url_of

if TYPE_CHECKING:
    from service.configuration.settings import Settings


def fill_settings(settings: "Settings") -> "Settings":
    """Fill in what follows from other settings and from the machine."""
    database = Path(settings.state).absolute() / "records.sqlite"
    sizes = sizing.model_sizes(settings.registry_dir)
    counts = {name: getattr(settings, name) for name in sizing.Sizing._fields}
    choice = sizing.choose(sizing.machine(), sizes, **counts)
    return msgspec.structs.replace(
        settings,
        **choice._asdict(),
        service_url=settings.service_url or url_of(near(settings.host), settings.port),
        watch_url=settings.watch_url or url_of(near(settings.watch_host), settings.watch_port),
        database_url=settings.database_url or f"sqlite:///{database}",
    )
