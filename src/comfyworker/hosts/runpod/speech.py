"""What RunPod's SDK and its libraries say, in the worker's own log: no payloads, no tokens, and nothing on stdout.

Wire source: RunPod's SDK, `rp_logger.RunPodLogger.log`: it prints to stdout, at its default level with every answer
and with the URLs that it asks.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any, Final

import structlog

from comfyworker.redaction import redact

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

LEVELS: Final = ("NOTSET", "TRACE", "DEBUG", "INFO", "WARN", "ERROR")
"""The SDK's own, from the least to the most important."""
_MOST_CHARS: Final = 500
_QUERY: Final = re.compile(r"\?[^\s'\")]+")
_PAYLOAD: Final = re.compile(r"[{\[].*", re.DOTALL)
_METHODS: Final = {"TRACE": "debug", "DEBUG": "debug", "INFO": "info", "TIP": "info", "WARN": "warning"}


class Speech:
    """Takes what the SDK says."""

    def __init__(self, level: str, *, secrets: tuple[str, ...] = ()) -> None:
        """Log what is said from `level` on; `secrets` are cut out wherever they stand."""
        self._level = level
        self._secrets = tuple(secret for secret in secrets if secret)

    def tame(self, text: str) -> str:
        """Return a message without payloads, query strings and secrets, cut at a sensible length."""
        # The SDK writes what it has got or sends as Python objects at the end of its messages.
        text = _PAYLOAD.sub("…", text)
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return _QUERY.sub("?…", redact(text))[:_MOST_CHARS]

    def say(self, message: object, level: str = "INFO", job_id: str | None = None) -> None:
        """Log one message of the SDK's."""
        if self._level == "NOTSET" or (level in LEVELS and LEVELS.index(level) < LEVELS.index(self._level)):
            return
        named = {} if job_id is None else {"job_id": job_id}
        getattr(log, _METHODS.get(level, "error"))("runpod.said", message=self.tame(str(message)), **named)

    def replace(self, logger_class: type[Any]) -> None:  # Any: the SDK has no types
        """Have the SDK's logger speak here instead of printing."""

        def said(_logger: object, message: object, message_level: str = "INFO", job_id: str | None = None) -> None:
            self.say(message, message_level, job_id)

        logger_class.log = said

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take what is printed to stdout, and what libraries log, while the context is open."""
        handler = _Handler(self)
        root = logging.getLogger()
        root.addHandler(handler)
        printed = _Printed(self)
        try:
            with contextlib.redirect_stdout(printed):
                yield
        finally:
            printed.flush()
            root.removeHandler(handler)


class _Handler(logging.Handler):
    """Takes what libraries log; a traceback goes into our log as it is, since it is nobody's but ours to see."""

    def __init__(self, speech: Speech) -> None:
        super().__init__(logging.WARNING)
        self._speech = speech

    def emit(self, record: logging.LogRecord) -> None:
        level = "ERROR" if record.levelno >= logging.ERROR else "WARN"
        self._speech.say(f"{record.name}: {record.getMessage()}", level)
        if record.exc_info and record.exc_info[0] is not None:
            log.error("runpod.library_failed", library=record.name, error_type=record.exc_info[0].__name__)


class _Printed(io.TextIOBase):
    """Takes what is printed, line by line."""

    def __init__(self, speech: Speech) -> None:
        super().__init__()
        self._speech = speech
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self._speech.say(line.strip())
        return len(text)

    def flush(self) -> None:
        if self._rest.strip():
            line, self._rest = self._rest, ""
            self._speech.say(line.strip())

    def fileno(self) -> int:
        return sys.__stdout__.fileno() if sys.__stdout__ is not None else -1
