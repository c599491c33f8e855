"""A job as Comfy API v2's clients submit it: read, its assets found, looked at by ComfyUI's rules, handed in."""

from __future__ import annotations

import json
import uuid
from typing import Final

from pydantic import JsonValue
from starlette.requests import Request

from comfyworker.dialects import comfy_api_v2 as dialect
from comfyworker.dialects import dialect_named
from comfyworker.errors import (
    IdempotencyKeyReused,
    InvalidRequest,
    MissingAsset,
    NotFound,
    Problem,
)
from comfyworker.hosts.http.comfy_v2.answers import LABELS
from comfyworker.hosts.http.context import base_url_of, context_of
from comfyworker.hosts.http.notes import BASE_URL
from comfyworker.jobs import InputFile, JobRequest
from comfyworker.service import AssetRecord, Assets, JobRecord, Submission
from comfyworker.workflow.assets import AssetInput, find_assets, name_assets

API_NAME: Final = "comfy_v2"
KEY_HEADER: Final = "Idempotency-Key"
_SPOKEN = dialect_named("comfy-api-v2")
_MAX_KEY_CHARS = 255


async def submit(request: Request, owner: str, body: object) -> JobRecord:
    """Take the job that `body` asks for; it is durable when this returns.

    Raises:
        InvalidRequest: with everything that is wrong with the request.
        MissingAsset: the workflow names assets that the owner does not have.
        InvalidWorkflow: ComfyUI would refuse the workflow.
        IdempotencyKeyReused: the key came with a job before; `details` names it.
        QueueFull: as many jobs wait as may.
    """
    context, key = context_of(request), _idempotency_key(request)
    job, labels = _SPOKEN.parse(body, new_id=lambda: str(uuid.uuid4())), dialect.read_labels(body)
    kept = _kept_workflow(job)
    job = await _with_assets(job, context.service.assets, owner)
    await context.worker.pipeline.check(job)
    record = await context.service.submit(
        Submission(
            request=job,
            api=API_NAME,
            dialect=_SPOKEN.name,
            owner=owner,
            idempotency_key=key,
            body=kept,
            meta={BASE_URL: base_url_of(request), **({LABELS: {**labels}} if labels else {})},
        )
    )
    if record.is_repeat and key is not None:
        # The contract has no replay: who sends a key again learns which job it was.
        raise IdempotencyKeyReused(
            f"the {KEY_HEADER} came with job {record.id} before",
            hint="Ask for that job, or send another key to run the workflow again.",
            details={"job_id": record.id},
        )
    return record


async def workflow_of(request: Request, owner: str, job_id: str) -> dict[str, JsonValue]:
    """Return the workflow that a job was submitted with, as it was.

    Raises:
        NotFound: there is no such job, it has expired, or it brought no workflow.
    """
    service = context_of(request).service
    # Jobs that came by another API have no body of ours; what was understood of them has the workflow, too.
    kept = await service.body(owner, job_id) or _kept_workflow(await service.request(owner, job_id))
    if kept is None:
        raise NotFound(
            f"job {job_id} brought no workflow", hint="It named a modifier instead, or took the server's own workflow."
        )
    document: dict[str, JsonValue] = json.loads(kept)
    return document


def _kept_workflow(job: JobRequest) -> bytes | None:
    if job.gui_workflow is not None:
        return json.dumps({"workflow": job.gui_workflow, "format": "save"}).encode()
    if job.workflow is not None:
        return json.dumps({"workflow": job.workflow, "format": "api"}).encode()
    return None


async def _with_assets(job: JobRequest, assets: Assets, owner: str) -> JobRequest:
    """Return `job` with the assets of its workflow as input files."""
    places = find_assets(job.workflow or {})
    if job.workflow is None or not places:
        return job
    found: dict[str, AssetRecord] = {}
    problems: list[Problem] = []
    for place in places:
        if place.asset_id is None:
            problems.append(_problem(place, "an asset without info.id"))
        elif place.asset_id not in found:
            try:
                found[place.asset_id] = await assets.get(place.asset_id, owner=owner)
            except NotFound:
                problems.append(_problem(place, f"there is no asset {place.asset_id[:64]!r}"))
    if problems:
        message = "; ".join(problem.message for problem in problems)
        raise MissingAsset(message, hint="Upload it again: it was deleted, or has expired.", problems=problems)
    names = {asset_id: _label(asset) for asset_id, asset in found.items()}
    files = tuple(InputFile(name=names[asset_id], path=asset.path) for asset_id, asset in found.items())
    return job.model_copy(update={"workflow": name_assets(job.workflow, names), "files": (*job.files, *files)})


def _label(asset: AssetRecord) -> str:
    """Return a name for the workflow that no other file has."""
    name = "".join(character for character in asset.name.replace("\\", "/").rpartition("/")[2][-100:])
    return f"{asset.id}/{name}" if name not in {"", ".", ".."} else f"{asset.id}/file"


def _problem(place: AssetInput, what: str) -> Problem:
    return Problem(
        message=f"node {place.node_id} ({place.class_type}), input {place.input_name}: {what}",
        code="missing_asset",
        path=f"workflow.{place.node_id}.inputs.{place.input_name}",
        node_id=place.node_id,
        class_type=place.class_type,
        input_name=place.input_name,
    )


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get(KEY_HEADER)
    if key is None:
        return None
    if not key or len(key) > _MAX_KEY_CHARS or not key.isascii() or not key.isprintable():
        message = f"{KEY_HEADER} must be 1 to {_MAX_KEY_CHARS} printable ASCII characters"
        raise InvalidRequest(message, problems=[Problem(message=message, code="invalid_value", path=KEY_HEADER)])
    return key
