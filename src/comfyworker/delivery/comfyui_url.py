"""Artifacts that stay where they are: ComfyUI serves them itself."""

from __future__ import annotations

from collections.abc import Sequence

from comfyworker.errors import DeliveryFailed, Problem
from comfyworker.jobs import Artifact, UrlType


class ComfyUIUrlDelivery:
    """Leaves each file in ComfyUI's folders, where its `comfyui_url` points."""

    keeps_outputs = True

    async def deliver(self, artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
        """Return the artifacts with ComfyUI's URL as theirs.

        Raises:
            DeliveryFailed: with every file that no ComfyUI serves.
        """
        problems = [
            Problem(
                message=f"node {artifact.node_id} made {artifact.name}, which no ComfyUI serves any more",
                node_id=artifact.node_id,
                code="no_url",
            )
            for artifact in artifacts
            if artifact.text is None and artifact.comfyui_url is None
        ]
        if problems:
            raise DeliveryFailed(
                "; ".join(problem.message for problem in problems),
                hint="ComfyUI ended after it had made them. Send the request again, or ask for base64.",
                problems=problems,
            )
        return tuple(
            artifact
            if artifact.comfyui_url is None
            else artifact.model_copy(update={"url": artifact.comfyui_url, "url_type": UrlType.COMFYUI_URL})
            for artifact in artifacts
        )
