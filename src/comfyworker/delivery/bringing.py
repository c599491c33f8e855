"""Artifacts brought to the client: pictures into the wanted shape first, then on the chosen way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from comfyworker.delivery.pictures import PictureShaper, Shape, check_format
from comfyworker.delivery.protocol import Delivery
from comfyworker.errors import DeliveryFailed, Problem
from comfyworker.jobs import Artifact, Output, PictureFormat
from comfyworker.settings import DeliverySettings

LEFT_HINT = "The worker's STATE_DIR does not take the files, so they were left where ComfyUI wrote them."
KEPT_HINT = "The worker keeps the files for a while under `undelivered` in its STATE_DIR."


class Brought(BaseModel):
    """What came out of a delivery; an artifact with a `failure` did not arrive."""

    model_config = ConfigDict(frozen=True)

    artifacts: tuple[Artifact, ...]
    warnings: tuple[str, ...]


class Bringer:
    """Brings the artifacts of all jobs of a worker."""

    def __init__(self, settings: DeliverySettings) -> None:
        """Shape pictures as `settings` say where the request does not."""
        self._settings = settings
        self._shaper = PictureShaper()

    def check(self, output: Output) -> None:
        """Look whether the artifacts can be made into what is wanted; called before the job runs.

        Raises:
            InvalidRequest: the format cannot be made here.
        """
        check_format(self._shape(output).format)

    async def bring(self, artifacts: Sequence[Artifact], output: Output, *, delivery: Delivery, spool: Path) -> Brought:
        """Return the artifacts as they were delivered.

        Args:
            artifacts: What was collected.
            output: How the job wants them.
            delivery: The way for this job.
            spool: A folder of the job's own for changed pictures; made when it is needed.

        Raises:
            DeliveryFailed: the delivery failed as a whole.
            InsufficientStorage: the disk is full.
        """
        shape = self._shape(output)
        if delivery.keeps_outputs:
            # ComfyUI serves the files itself, from its own folders, which are not ours to change.
            warnings = () if shape.changes_nothing else (_not_shaped(shape),)
            return Brought(artifacts=await delivery.deliver(artifacts), warnings=warnings)
        shaped = await self._shaper.shape(artifacts, shape, spool=spool)
        return Brought(artifacts=await delivery.deliver(shaped.artifacts), warnings=shaped.warnings)

    def _shape(self, output: Output) -> Shape:
        settings = self._settings
        usual = None if settings.format is None else PictureFormat(settings.format)
        strip = settings.strip_metadata if output.strip_metadata is None else output.strip_metadata
        return Shape(format=output.format or usual, quality=output.quality or settings.quality, strip_metadata=strip)


def _not_shaped(shape: Shape) -> str:
    wanted = "with their metadata" if shape.format is None else f"in their own format instead of {shape.format.value}"
    return f"pictures are delivered {wanted}: ComfyUI's own URLs lead to the files as the workflow made them"


def delivery_failed(artifacts: Sequence[Artifact], *, kept: Sequence[str], are_left: bool = False) -> DeliveryFailed:
    """Return the error for a job of which some artifacts did not arrive.

    Args:
        artifacts: All of them; those that did not arrive have a `failure`.
        kept: The names of the files that are kept on the worker's disk.
        are_left: Whether the files could not be kept, so that they were left in ComfyUI's folders.
    """
    lost = [(artifact.name, artifact.failure, artifact.node_id) for artifact in artifacts if artifact.failure]
    arrived = [artifact.name for artifact in artifacts if artifact.failure is None and artifact.text is None]
    problems = [Problem(message=failure.message, node_id=node_id, code="not_delivered") for _, failure, node_id in lost]
    hints = dict.fromkeys(failure.hint for _, failure, _ in lost if failure.hint)
    if kept:
        hints[KEPT_HINT] = None
    if are_left:
        hints[LEFT_HINT] = None
    return DeliveryFailed(
        f"{len(lost)} of {len(lost) + len(arrived)} artifacts could not be delivered: "
        + "; ".join(problem.message for problem in problems),
        hint=" ".join(hints) or None,
        problems=problems,
        details={"failed": [name for name, _, _ in lost], "delivered": [*arrived], "kept": [*kept]},
        retryable=all(failure.may_pass for _, failure, _ in lost),
    )
