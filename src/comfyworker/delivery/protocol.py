"""What brings artifacts to where they belong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from comfyworker.jobs import Artifact


class Delivery(Protocol):
    """A way for artifacts to leave the worker."""

    @property
    def keeps_outputs(self) -> bool:
        """Whether the files must stay in ComfyUI's folders after the job."""

    async def deliver(self, artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
        """Return the artifacts as they are delivered; called once a job, before its files are removed.

        Each artifact has `path` or `text`. On cancellation nothing half-delivered may stay.

        Raises:
            DeliveryFailed: naming every artifact that did not arrive.
            InsufficientStorage: the disk is full.
        """
