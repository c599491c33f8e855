"""What workers that were killed left in the ComfyUIs of COMFY_API_URL, taken back before this one sends jobs there.

Those ComfyUIs go on with the prompts of a dead worker, while its jobs may run once more: on another ComfyUI that would
be at the same time. A ComfyUI that the worker started ends with it, and needs none of this.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from comfyworker.comfyui.client_record import ClientRecord, take_dead_records, write_record
from comfyworker.comfyui.collecting import remove_outputs
from comfyworker.comfyui.instance import ComfyUIInstance, is_answering, wait_back
from comfyworker.comfyui.withdrawal import withdraw_prompts
from comfyworker.errors import ComfyUIUnreachable
from comfyworker.workflow.fresh import MARK

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_LET_GO_WITHIN_S = 300.0  # a node that loads a model does not look whether it was interrupted


class Succession:
    """This worker as the successor of those that were killed; for all ComfyUIs of a pool."""

    def __init__(self, folder: Path | None = None, *, keeps_outputs: bool = False) -> None:
        """Prepare.

        Args:
            folder: Where it is written down which client ids are in use; None writes and looks for nothing.
            keeps_outputs: Whether to leave in ComfyUI's folders what prompts had saved before they were taken back.
        """
        self._folder = folder
        self._keeps_outputs = keeps_outputs
        self._dead: dict[str, tuple[ClientRecord, ...]] = {}
        self._unsettled: set[str] = set()
        self._all_settled = asyncio.Event()

    @contextlib.asynccontextmanager
    async def to(self, urls: Sequence[str]) -> AsyncIterator[None]:
        """Find out who was killed while using the ComfyUIs at `urls`; what is not done at the end is the next one's."""
        folder = self._folder
        if folder is not None:
            for url in dict.fromkeys(urls):
                records = await asyncio.to_thread(take_dead_records, folder, url)
                if records:
                    self._dead[url] = records
        self._unsettled = set(self._dead)
        self._settle(None)
        try:
            yield
        finally:
            for record in [record for records in self._dead.values() for record in records]:
                record.release()
            self._dead.clear()

    @contextlib.asynccontextmanager
    async def on_record(self, instance: ComfyUIInstance) -> AsyncIterator[None]:
        """Let a later worker know of the prompts that are sent to `instance` within the context."""
        record = await self._write_record(instance)
        try:
            yield
        finally:
            if record is not None:
                await asyncio.to_thread(record.release if instance.leaves_prompts else record.remove)

    async def look(self, instance: ComfyUIInstance) -> None:
        """Look whether `instance` answers, if a dead worker used it; the other ComfyUIs wait no longer if it does not.

        Where nobody listens, no prompt runs that could run on another one at the same time.
        """
        url = instance.client.url
        if url in self._unsettled and not await is_answering(instance):
            self._settle(url)

    async def take_over(self, instance: ComfyUIInstance) -> None:
        """Take back what dead workers left in `instance`, which answers; then wait until the others are through too."""
        url = instance.client.url
        while url in self._dead:
            try:
                async with asyncio.timeout(_LET_GO_WITHIN_S):
                    await self._withdraw(instance, self._dead[url])
            except ComfyUIUnreachable:
                self._settle(url)
                await wait_back(instance)
            except TimeoutError:
                log.warning("comfyui.prompts_stay", instance=instance.name, waited_s=_LET_GO_WITHIN_S)
                break
            else:
                for record in self._dead.pop(url):
                    record.remove()
        self._settle(url)
        try:
            async with asyncio.timeout(_LET_GO_WITHIN_S):
                await self._all_settled.wait()
        except TimeoutError:
            log.warning("comfyui.prompts_stay_elsewhere", instance=instance.name, waited_s=_LET_GO_WITHIN_S)

    def _settle(self, url: str | None) -> None:
        self._unsettled.discard(url or "")
        if not self._unsettled:
            self._all_settled.set()

    async def _write_record(self, instance: ComfyUIInstance) -> ClientRecord | None:
        if self._folder is None:
            return None
        try:
            return await asyncio.to_thread(write_record, self._folder, instance.client.url, instance.socket.client_id)
        except OSError as error:
            # The worker does without: only after a crash would its prompts be looked for.
            log.warning("comfyui.not_recorded", instance=instance.name, error=error.strerror)
            return None

    async def _withdraw(self, instance: ComfyUIInstance, records: Sequence[ClientRecord]) -> None:
        client_ids = {record.client_id for record in records}
        prompt_ids = await withdraw_prompts(instance.client, lambda _, client_id: client_id in client_ids)
        for prompt_id in prompt_ids:
            await self._remove_outputs(instance, prompt_id)
        log.info("comfyui.earlier_withdrawn", instance=instance.name, workers=len(records), prompts=len(prompt_ids))

    async def _remove_outputs(self, instance: ComfyUIInstance, prompt_id: str) -> None:
        if instance.folders is None or self._keeps_outputs:
            return
        entry = await instance.client.history(prompt_id)  # None if it had not begun
        begun_at = None if entry is None else _begun_at(entry)
        if entry is not None and begun_at is not None:
            outputs = entry.get("outputs") or {}
            await asyncio.to_thread(remove_outputs, instance.folders, outputs, _marked_nodes(entry), since=begun_at)


def _marked_nodes(entry: Mapping[str, Any]) -> frozenset[str]:
    """Return the output nodes of a prompt of ours, which have run for it alone; see `mark_outputs`."""
    # The prompt is [number, prompt_id, graph, extra_data, outputs].
    graph = entry["prompt"][2]
    return frozenset(node_id for node_id, node in graph.items() if MARK in node.get("inputs", {}))


def _begun_at(entry: Mapping[str, Any]) -> float | None:
    """Return when ComfyUI began with a prompt, in seconds of Unix time."""
    for event_type, payload in (entry.get("status") or {}).get("messages") or ():
        if event_type == "execution_start" and isinstance(payload.get("timestamp"), int):
            return float(payload["timestamp"]) / 1000
    return None
