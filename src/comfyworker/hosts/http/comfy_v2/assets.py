"""Comfy API v2's assets: files that clients upload, and what their jobs made."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from contextlib import aclosing

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from comfyworker.errors import HashMismatch, InvalidRequest, Problem, RequestTooLarge, WorkerError
from comfyworker.hosts.http.artifacts import file_answer
from comfyworker.hosts.http.comfy_v2.answers import TextId, asset_document, find_text, text_document
from comfyworker.hosts.http.comfy_v2.multipart import UNNAMED, Told, check_file_path, open_upload
from comfyworker.hosts.http.context import context_of
from comfyworker.hosts.http.limits import read_body
from comfyworker.hosts.http.rendering import json_answer
from comfyworker.hosts.local import parse_json
from comfyworker.service import AssetRecord, Assets

_CREATED, _OK = 201, 200
_READ_ON_BYTES = 64 * 1024 * 1024
_READ_ON_S = 5.0


async def upload(request: Request, owner: str) -> Response:
    """Take a file as it comes in."""
    try:
        return _made(request, await _take_in(request, owner))
    except RequestTooLarge:
        await _let_finish(request)
        raise


async def from_hash(request: Request, owner: str) -> Response:
    """Make an asset of bytes that are here."""
    body = parse_json(await read_body(request), name="the request's body", hint='Send {"hash": "blake3:…"}.')
    digest = body.get("hash") if isinstance(body, Mapping) else None
    name = body.get("file_path") if isinstance(body, Mapping) else None
    for key, value in (("hash", digest), ("file_path", name or "")):
        if not isinstance(value, str):
            message = f"{key} must be text"
            raise InvalidRequest(message, problems=[Problem(message=message, code="wrong_type", path=key)])
    file_path = check_file_path(str(name or UNNAMED))
    return _made(request, await context_of(request).service.assets.from_hash(str(digest), owner=owner, name=file_path))


async def show(request: Request, owner: str, asset_id: str) -> Response:
    """Tell of an asset."""
    text_id = TextId.read(asset_id)
    if text_id is not None:
        return json_answer(text_document(request, *await find_text(request, owner, text_id), text_id))
    return json_answer(asset_document(request, await context_of(request).service.assets.get(asset_id, owner=owner)))


async def content(request: Request, owner: str, asset_id: str) -> Response:
    """Send an asset's bytes."""
    text_id = TextId.read(asset_id)
    if text_id is None:
        return file_answer(await context_of(request).service.assets.get(asset_id, owner=owner))
    _, artifact = await find_text(request, owner, text_id)
    told = (artifact.text or "").encode(errors="replace")  # a node may report half a surrogate pair
    return Response(told, media_type="text/plain", headers={"X-Content-Type-Options": "nosniff"})


async def _take_in(request: Request, owner: str) -> AssetRecord:
    context = context_of(request)
    sent = await open_upload(request, max_bytes=context.settings.queue.asset_max_bytes)
    told = sent.told()
    async with aclosing(sent.chunks):
        asset = await context.service.assets.upload(
            sent.chunks,
            owner=owner,
            name=told.file_path,
            content_type=told.content_type,
            expected_hash=told.expected_hash,
        )
    try:
        late = sent.told()
        return asset if late == told else await _told_late(asset, late, context.service.assets)
    except WorkerError:
        await context.service.assets.delete(asset.id, owner=owner)
        raise


async def _told_late(asset: AssetRecord, told: Told, assets: Assets) -> AssetRecord:
    """Return the asset as it should be by what stood behind its bytes in the form."""
    if told.expected_hash is not None and told.expected_hash.lower() != asset.hash:
        raise HashMismatch(
            f"the bytes of '{told.file_path}' have the hash {asset.hash}, not {told.expected_hash[:80]}",
            hint="Send the file again; it was changed on its way, or the hash is another file's.",
        )
    named = await assets.from_hash(asset.hash, owner=asset.owner, name=told.file_path, content_type=told.content_type)
    await assets.delete(asset.id, owner=asset.owner)
    return named.model_copy(update={"created_new": asset.created_new})


async def _let_finish(request: Request) -> None:
    """Read on for a while: a client that is still sending when the connection closes never sees why it was closed."""
    if request.headers.get("expect"):  # it asks before it sends
        return
    left_bytes = _READ_ON_BYTES
    # RuntimeError: the body had been read to its end.
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(_READ_ON_S):
            async for chunk in request.stream():
                left_bytes -= len(chunk)
                if left_bytes < 0:
                    return


def _made(request: Request, asset: AssetRecord) -> Response:
    return json_answer(asset_document(request, asset, tells_new=True), _CREATED if asset.created_new else _OK)
