"""gunicorn's own lines (start, ends of workers, errors) in the form of the others."""

from typing import Any

from gunicorn.glogging import Logger

from models.base.logs import JsonHandler


class JsonLogger(Logger):  # type: ignore[misc]
    """Give to gunicorn as `logger_class`; `models.base.logs.configure` was called before."""

    def setup(self, cfg: Any) -> None:
        """Put our handler in the place of gunicorn's."""
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            log.handlers[:] = [JsonHandler("gunicorn")]
