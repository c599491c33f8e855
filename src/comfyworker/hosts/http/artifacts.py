"""Artifacts under signed URLs: who has the URL may read the file, and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, BinaryIO

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from comfyworker.errors import NotFound
from comfyworker.hosts.http.context import context_of
from comfyworker.hosts.http.routing import Router
from comfyworker.service import AssetRecord

# A file may be HTML or SVG: opened in a browser, it must not act as a page of this server.
_HEADERS = {
    "Cache-Control": "private, max-age=3600, immutable",
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}
_METHODS = {"GET": "read_artifact", "HEAD": "probe_artifact"}


def router() -> Router:
    """Return the route under which artifacts are read."""
    routes = Router(tag="Artifacts", operations=_operations)
    for method, name in _METHODS.items():
        routes.add("/artifacts/{token}/{name}", read_artifact, methods=(method,), operation_id=name)
    return routes


def _operations() -> Mapping[str, Mapping[str, Any]]:  # Any: what FastAPI takes
    told = {
        "summary": "Read an artifact by its signed URL",
        "response_class": FileResponse,
        "responses": {403: {"description": "Not one of this server's URLs, or expired"}, 404: {"description": "Gone"}},
    }
    return dict.fromkeys(_METHODS.values(), told)


async def read_artifact(request: Request, token: str, name: str) -> Response:
    """Needs no API key: the URL carries its permission. Ranges are understood."""
    del name  # for people and for what they save it as; the token alone says which file
    context = context_of(request)
    asset_id = context.signer.open(token, now=time.time())
    return file_answer(await context.service.assets.find(asset_id))


def file_answer(asset: AssetRecord) -> Response:
    """Return an answer that sends the asset's file.

    Raises:
        NotFound: it is gone.
    """
    try:
        file = asset.path.open("rb")
    except OSError as error:
        raise NotFound("the file is not there any more", hint="Run the job again.") from error
    return _OpenFile(file, asset)


class _OpenFile(FileResponse):
    """Sends a file that is open already: it may expire when the head has promised it and no byte has gone yet."""

    def __init__(self, file: BinaryIO, asset: AssetRecord) -> None:
        super().__init__(
            f"/dev/fd/{file.fileno()}",
            headers=_HEADERS,
            media_type=asset.content_type,
            filename=asset.name,
            content_disposition_type="inline",
            stat_result=os.fstat(file.fileno()),
        )
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)
