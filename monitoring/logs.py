"""Structured logs: one JSON object per line on standard error, values escaped."""

import logging
import sys
from typing import Any

import structlog


def configure(level: str) -> None:
    """Set up structlog for this process; `level` is debug, info, warning or error."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=True, default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def logger(component: str) -> Any:
    """A logger whose lines carry the component's name."""
    return structlog.get_logger(component=component)
