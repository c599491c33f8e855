"""Kept files put into an answer as base64, when there is one to make."""

from __future__ import annotations

from comfyworker.delivery.fitting import FittingDelivery
from comfyworker.delivery.inline import InlineDelivery
from comfyworker.jobs import Artifact, JobResult


async def inline_files(result: JobResult, *, limit_bytes: int | None = None) -> JobResult:
    """Return `result` with the bytes of each kept file in its artifact; nothing of this is stored.

    Args:
        result: What came of a job; its artifacts have `path` where a file is kept.
        limit_bytes: The largest answer that may be made; None is no limit.

    Raises:
        AnswerTooLarge: it would be larger.
        DeliveryFailed: a file cannot be read any more.
    """
    delivery = (
        InlineDelivery()
        if limit_bytes is None
        else FittingDelivery(limit_bytes, inline=InlineDelivery(), otherwise=None)
    )
    kept = [artifact for artifact in result.artifacts if artifact.path is not None]
    if not kept:
        return result
    embedded: dict[int, Artifact] = dict(zip(map(id, kept), await delivery.deliver(kept), strict=True))
    artifacts = tuple(embedded.get(id(artifact), artifact) for artifact in result.artifacts)
    return result.model_copy(update={"artifacts": artifacts})
