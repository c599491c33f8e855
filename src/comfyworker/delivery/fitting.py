"""Artifacts inside the answer, as long as the platform takes such an answer: it would drop a larger one unseen."""

from __future__ import annotations

from collections.abc import Sequence

from comfyworker.delivery.json_stream import iter_json
from comfyworker.delivery.protocol import Delivery
from comfyworker.errors import AnswerTooLarge, DeliveryFailed
from comfyworker.jobs import Artifact

_ENTRY_BYTES = 512  # of one artifact's keys in the largest of the dialects
_REST_BYTES = 4096  # of all else: warnings, timings, ids


def inline_bytes(artifacts: Sequence[Artifact]) -> int:
    """Return how many bytes an answer with these artifacts has at most: base64 of what has no URL yet."""
    return _REST_BYTES + sum(_ENTRY_BYTES + _content_bytes(artifact) for artifact in artifacts)


def _content_bytes(artifact: Artifact) -> int:
    if artifact.text is not None:
        # The dialect `pyworker` tells a text twice.
        return 2 * sum(len(piece) for piece in iter_json(artifact.text))
    return -(-artifact.size_bytes // 3) * 4 if artifact.url is None else len(artifact.url)


class FittingDelivery:
    """Puts artifacts into the answer if it stays within a limit, else takes another way if there is one."""

    keeps_outputs = False

    def __init__(self, limit_bytes: int, *, inline: Delivery, otherwise: Delivery | None) -> None:
        """Keep answers within `limit_bytes`; what fits goes by `inline`, what does not by `otherwise`."""
        self._limit_bytes = limit_bytes
        self._inline = inline
        self._otherwise = otherwise

    async def deliver(self, artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
        """Return the artifacts as one of the two ways delivers them.

        Raises:
            AnswerTooLarge: they do not fit, and there is no other way.
            DeliveryFailed: a file cannot be read.
        """
        size_bytes = inline_bytes(artifacts)
        if size_bytes <= self._limit_bytes:
            return await self._inline.deliver(artifacts)
        if self._otherwise is not None:
            return await self._otherwise.deliver(artifacts)
        raise AnswerTooLarge(
            f"with its {len(artifacts)} artifacts the answer would have {_size(size_bytes)}, more than the "
            f"{_size(self._limit_bytes)} that it may have here",
            hint='Have them brought to object storage: ask for it with `"output": {"delivery": "s3"}`, and set '
            "BUCKET_ENDPOINT_URL for the worker or send `s3` with the request. "
            'Smaller pictures may fit: `"output": {"format": "webp"}`. ANSWER_MAX_BYTES is the limit.',
            details={"answer_bytes": size_bytes, "limit_bytes": self._limit_bytes},
        )


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 100_000 else f"{size_bytes / 1e3:.1f} kB"


class WithinLimit:
    """Delivers as another does, and refuses an answer that is too large all the same: texts are always inside."""

    def __init__(self, delivery: Delivery, limit_bytes: int) -> None:
        """Keep answers within `limit_bytes`."""
        self._delivery = delivery
        self._limit_bytes = limit_bytes

    @property
    def keeps_outputs(self) -> bool:
        """Whether the files must stay in ComfyUI's folders after the job."""
        return self._delivery.keeps_outputs

    async def deliver(self, artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
        """Return the artifacts as they are delivered.

        Raises:
            AnswerTooLarge: the texts do not fit; looked at first, so that nothing is brought in vain.
        """
        texts_bytes = inline_bytes([artifact for artifact in artifacts if artifact.text is not None])
        if texts_bytes > self._limit_bytes:
            raise AnswerTooLarge(
                f"with the texts that its nodes reported the answer would have {_size(texts_bytes)}, more than the "
                f"{_size(self._limit_bytes)} that it may have here",
                hint="Let the workflow save long texts as files. ANSWER_MAX_BYTES is the limit.",
                details={"answer_bytes": texts_bytes, "limit_bytes": self._limit_bytes},
            )
        return await self._delivery.deliver(artifacts)


class InlineFallback:
    """Puts into the answer what another delivery could not bring, if it fits."""

    def __init__(self, first: Delivery, limit_bytes: int | None, *, inline: Delivery) -> None:
        """Try another delivery first.

        Args:
            first: The other delivery.
            limit_bytes: The largest answer; None is no limit.
            inline: Puts files into the answer.
        """
        self._first = first
        self._limit_bytes = limit_bytes
        self._inline = inline

    @property
    def keeps_outputs(self) -> bool:
        """Whether the files must stay in ComfyUI's folders after the job."""
        return self._first.keeps_outputs

    async def deliver(self, artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
        """Return the artifacts as they are delivered; one that neither arrived nor fits keeps its `failure`."""
        delivered = await self._first.deliver(artifacts)
        inline = [artifact for artifact in delivered if artifact.failure is not None]
        if not inline or (self._limit_bytes is not None and inline_bytes(delivered) > self._limit_bytes):
            return delivered
        cleared = [artifact.model_copy(update={"failure": None}) for artifact in inline]
        try:
            embedded = iter(await self._inline.deliver(cleared))
        except DeliveryFailed:
            return delivered
        return tuple(artifact if artifact.failure is None else next(embedded) for artifact in delivered)
