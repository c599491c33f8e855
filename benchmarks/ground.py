"""What every measure stands on: the one ComfyUI of the run, the bare client, the worker."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from benchmarks.bucket import Bucket, StoreStarter
from benchmarks.floor import BareClient
from benchmarks.worker import Worker
from support.real_comfyui import RealComfyUI

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_SIGNATURE_BASE64 = "iVBORw0KGg"


@dataclass(frozen=True)
class Execution:
    """When ComfyUI's own history says that a prompt ran, in milliseconds of its clock, cut to whole ones."""

    begun_ms: int
    ended_ms: int

    @property
    def duration_ms(self) -> int:
        """How long it ran; on average the two cuts cancel each other out."""
        return self.ended_ms - self.begun_ms


@dataclass(frozen=True)
class Ground:
    """One run of the benchmarks."""

    comfyui: RealComfyUI
    session: aiohttp.ClientSession
    """For questions outside of what is timed."""
    floor: BareClient
    worker: Worker
    rounds: int | None
    """What the caller asked for instead of each measure's own number."""
    say: Callable[[str], None]
    start_store: StoreStarter
    _seen: set[int] = field(default_factory=set)

    def rounds_or(self, own: int) -> int:
        """Return how many rounds to make."""
        return self.rounds if self.rounds is not None else own

    async def bucket(self) -> Bucket:
        """Return a new bucket in the object store of the run, which is started when it is first asked for."""
        store = await asyncio.to_thread(self.start_store)
        return Bucket(store, await store.make_bucket())

    async def execution(self, prompt_id: str) -> Execution:
        """Return when a finished prompt ran."""
        async with self.session.get(f"{self.comfyui.url}/history/{prompt_id}") as answer:
            entry = (await answer.json())[prompt_id]
        at_ms = {event: data["timestamp"] for event, data in entry["status"]["messages"]}
        return Execution(at_ms["execution_start"], at_ms["execution_success"])

    async def object_info(self) -> dict[str, Any]:
        """Return what ComfyUI says of its node classes."""
        async with self.session.get(f"{self.comfyui.url}/object_info") as answer:
            return dict(await answer.json())

    async def comfyui_version(self) -> str:
        """Return ComfyUI's version."""
        async with self.session.get(f"{self.comfyui.url}/system_stats") as answer:
            return str((await answer.json())["system"]["comfyui_version"])

    def check(self, pictures: list[bytes] | list[str], count: int) -> None:
        """Check that an answer holds `count` pictures, as bytes or base64, that no answer of its kind held before.

        Raises:
            RuntimeError: It does not, so the figures mean nothing.
        """
        if len(pictures) != count:
            message = f"an answer holds {len(pictures)} pictures instead of {count}"
            raise RuntimeError(message)
        for picture in pictures:
            if not _is_png(picture) or hash(picture) in self._seen:
                message = "an answer holds something that is no picture, or one that was in an earlier answer"
                raise RuntimeError(message)
            self._seen.add(hash(picture))


def _is_png(picture: bytes | str) -> bool:
    if isinstance(picture, str):
        return picture.startswith(PNG_SIGNATURE_BASE64)
    return picture.startswith(PNG_SIGNATURE)
