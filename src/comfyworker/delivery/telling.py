"""Artifacts told of one by one, where a delivery brings them all at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from comfyworker.delivery.protocol import Delivery
from comfyworker.jobs import Artifact


class TellingDelivery:
    """Delivers as another does, and then tells of each file that arrived."""

    def __init__(self, delivery: Delivery, on_artifact: Callable[[Artifact], None]) -> None:
        """Deliver by `delivery`, and call `on_artifact` for each file."""
        self._delivery = delivery
        self._on_artifact = on_artifact

    @property
    def keeps_outputs(self) -> bool:
        """Whether the files must stay in ComfyUI's folders after the job."""
        return self._delivery.keeps_outputs

    async def deliver(self, artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
        """Return the artifacts as they are delivered."""
        delivered = await self._delivery.deliver(artifacts)
        for artifact in delivered:
            if artifact.text is None and artifact.failure is None:
                self._on_artifact(artifact)
        return delivered
