"""The worker's log: structured events on stderr, JSON where no person watches.

Configured once, by a command or a host at its start; never on import. stdout belongs to results.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog

from comfyworker.settings import LogSettings
from comfyworker.waterfall import draw_waterfall


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
        processors.append(_draw_phases)
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


def _draw_phases(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Draw the phases of an event as bars; `stack` is what structlog puts below the line."""
    phases = event.pop("phases", None)
    if phases:
        event["stack"] = draw_waterfall([(phase["name"], phase["begun_s"], phase["ended_s"]) for phase in phases])
    return event
