"""gunicorn's own log lines (start, end of workers, errors) as JSON like all others."""

from typing import Any

from gunicorn.glogging import Logger

from models.base.logs import JsonHandler


class JsonLogger(Logger):  # type: ignore[misc]
    """Give to gunicorn as `logger_class`; `models.base.logs.configure` was called before."""

    def setup(self, cfg: Any) -> None:
        """Replace gunicorn's handler by ours."""
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            log.handlers[:] = [JsonHandler("gunicorn")]
