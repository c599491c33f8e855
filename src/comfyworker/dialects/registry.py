"""Which dialect an answer is spoken in."""

from __future__ import annotations

import difflib
from typing import Final

from comfyworker.dialects.comfy_api_v2 import ComfyApiV2Dialect
from comfyworker.dialects.flux import FluxDialect
from comfyworker.dialects.names import DIALECT_NAMES
from comfyworker.dialects.protocol import Dialect
from comfyworker.dialects.pyworker import PyWorkerDialect
from comfyworker.dialects.request import wanted_format
from comfyworker.dialects.urls import UrlsDialect
from comfyworker.dialects.worker_comfyui import WorkerComfyUIDialect
from comfyworker.errors import InvalidRequest, Problem

_DIALECTS: Final[tuple[Dialect, ...]] = (
    WorkerComfyUIDialect(),
    UrlsDialect(),
    FluxDialect(),
    PyWorkerDialect(),
    ComfyApiV2Dialect(),
)
_CUT = 40


def dialect_named(name: str) -> Dialect:
    """Return the dialect of this name.

    Raises:
        InvalidRequest: there is none; the message lists those that there are.
    """
    for dialect in _DIALECTS:
        if dialect.name == name:
            return dialect
    near = difflib.get_close_matches(name[:_CUT], DIALECT_NAMES, n=1)
    meant = f"; did you mean '{near[0]}'?" if near else ""
    message = f"there is no dialect {name[:_CUT]!r}{meant}"
    raise InvalidRequest(
        message,
        hint=f"There are {', '.join(DIALECT_NAMES)}.",
        problems=[Problem(message=message, code="unknown_dialect", choices=DIALECT_NAMES)],
    )


def choose_dialect(body: object, *, default: str) -> Dialect:
    """Return the dialect that a request wants its answer in (`input.response_format`), else the one named `default`.

    A format that does not exist is answered in `default`, whose parse refuses it.
    """
    return dialect_named(wanted_format(body) or default)
