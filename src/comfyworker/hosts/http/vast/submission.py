"""A Vast-shaped request: `{"input": {…}, "expected_time"?}`, bare or as the payload of Vast's envelope.

Wire source: the README of ai-dock/comfyui-api-wrapper, "Inline base64 output": the header `X-Return-Outputs-As-Base64`.
"""

from __future__ import annotations

import uuid

from starlette.requests import Request

from comfyworker.dialects import dialect_named
from comfyworker.hosts.http.context import base_url_of
from comfyworker.hosts.http.notes import BASE_URL
from comfyworker.hosts.http.vast.answers import API_NAME, DIALECT
from comfyworker.jobs import DeliveryMode, JobRequest
from comfyworker.service import Submission

_BASE64_HEADER = "x-return-outputs-as-base64"
_YES = frozenset({"1", "true", "yes", "on"})


def make_submission(request: Request, body: object, *, owner: str) -> Submission:
    """Return the job that a request asks for.

    Raises:
        WorkerError: with everything that is wrong with it.
    """
    asked = dialect_named(DIALECT).parse(body, new_id=lambda: str(uuid.uuid4()))
    if request.headers.get(_BASE64_HEADER, "").strip().lower() in _YES:
        asked = _as_base64(asked)
    return Submission(request=asked, api=API_NAME, dialect=DIALECT, owner=owner, meta={BASE_URL: base_url_of(request)})


def _as_base64(request: JobRequest) -> JobRequest:
    """Return `request` with its files wanted in the answer, unless it says otherwise itself."""
    if request.output.delivery is not DeliveryMode.AUTO:
        return request
    return request.model_copy(update={"output": request.output.model_copy(update={"delivery": DeliveryMode.BASE64})})
