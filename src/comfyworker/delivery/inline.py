"""Artifacts as base64 text, for answers that carry them inline."""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import pybase64

from comfyworker.errors import DeliveryFailed
from comfyworker.jobs import Artifact

_INLINE_BELOW_BYTES = 512 * 1024
"""Up to here a file from the page cache is encoded sooner than a thread is found for it."""

# Both are multiples of 3, so that the pieces' base64 makes up the base64 of the whole.
_CHUNK_BYTES = 3 * 64 * 1024
_HEAD_BYTES = 27 * 1024 * 1024
_LARGE_BYTES = 2 * _HEAD_BYTES


def encode_file(path: Path, *, chunk_bytes: int = _CHUNK_BYTES) -> str:
    """Return the base64 of a file, with hardly more memory than the text itself takes (1.34 bytes a byte).

    Blocks: call it in a thread for anything but small files.

    Args:
        path: The file.
        chunk_bytes: Bytes to read at a time; a multiple of 3.

    Raises:
        DeliveryFailed: the file cannot be read; names it without its folders.
    """
    try:
        with path.open("rb") as file:
            is_large = path.stat().st_size > _LARGE_BYTES
            return _append_rest(_encode_head(file) if is_large else "", file, chunk_bytes)
    except OSError as error:
        raise DeliveryFailed(
            f"artifact '{path.name}' could not be read: {error.strerror}",
            hint="Something removed or locked the file before it was delivered, or its disk fails.",
        ) from error


def _append_rest(text: str, file: BinaryIO, chunk_bytes: int) -> str:
    """Return `text` with the base64 of the rest of `file` behind it.

    CPython grows a string in place while nothing else refers to it, and the C library moves a large block by remapping
    its pages: no second copy ever exists. Joining a list, StringIO.getvalue() and bytes.decode() all peak at 2.67 bytes
    a byte, encoding an mmap or the whole file at 2.33.
    """
    while True:  # Not `while chunk := …`: 3.11 never specialises that loop, and then copies the text for each piece.
        chunk = file.read(chunk_bytes)
        if not chunk:
            return text
        text += pybase64.b64encode_as_string(chunk)


def _encode_head(file: BinaryIO) -> str:
    """Return the base64 of a large file's beginning, as one block that the C library maps by itself.

    In a process that has freed large blocks, glibc maps only those above 32 MiB. A text that grew up to there from
    small pieces would leave up to 60 MB of holes in the heap. The buffer is a map too, and goes back to the system.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, _HEAD_BYTES, flags=flags) as buffer, memoryview(buffer) as view:
        size = file.readinto(view)  # type: ignore[attr-defined]  # typeshed's BinaryIO lacks it
        with view[:size] as head:
            return pybase64.b64encode_as_string(head)


class InlineDelivery:
    """Puts each artifact's bytes into the artifact itself, as base64."""

    keeps_outputs = False

    async def deliver(self, artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
        """Return the artifacts with `data`; texts are left as they are.

        Raises:
            DeliveryFailed: a file cannot be read.
        """
        delivered: list[Artifact] = []
        for artifact in artifacts:
            # One after the other: memory bandwidth is the limit, and two at once only add to the peak.
            delivered.append(await _embed(artifact))  # noqa: PERF401  # awaits
        return tuple(delivered)


async def _embed(artifact: Artifact) -> Artifact:
    if artifact.path is None:
        return artifact
    if artifact.size_bytes < _INLINE_BELOW_BYTES:
        data = encode_file(artifact.path)
    else:
        data = await asyncio.to_thread(encode_file, artifact.path)
    return artifact.model_copy(update={"data": data})
