"""The worker's log: structured events on stderr, JSON where no person watches.

Configured once, by a command or a host at its start; never on import. stdout belongs to results.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog

from comfyworker.settings import LogSettings


def configure_logs(settings: LogSettings, *, stream: TextIO | None = None) -> None:
    """Send every event of the worker to `stream` (stderr) in the form that the settings ask for."""
    out = stream or sys.stderr
    is_console = settings.format == "console" or (settings.format == "auto" and out.isatty())
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if not is_console else "%H:%M:%S", utc=not is_console),
    ]
    if is_console:
        colours = out.isatty()
        # The usual traceback of a terminal shows local variables, and with them secrets and presigned URLs.
        plain = structlog.dev.plain_traceback
        processors.append(structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=24, exception_formatter=plain))
    else:
        processors.append(structlog.processors.format_exc_info)
        processors.append(structlog.processors.JSONRenderer())
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
