"""Sizes and hashes of proposed models, asked of their hosts; nothing is downloaded."""

from __future__ import annotations

import asyncio
from pathlib import Path

from comfyworker.errors import WorkerError
from comfyworker.provision.download import Download, Downloader, cached_remote
from comfyworker.provision.proposal.records import Proposal, ProposedModel
from comfyworker.settings import ProvisionSettings, StoreSettings

_AT_ONCE = 8


async def look_up(proposal: Proposal, settings: ProvisionSettings, store: StoreSettings) -> Proposal:
    """Return the proposal with what the models' hosts say of their sizes and hashes.

    Where a host cannot be asked, huggingface_hub's cache is. What is not in there stays as it is, and is noted with the
    reason: the proposal is of use without it.
    """
    notes: list[str] = []
    slots = asyncio.Semaphore(_AT_ONCE)
    once = settings.model_copy(update={"attempts": 1})  # of use without it, and a person waits
    async with Downloader(once, store) as downloader:

        async def ask(model: ProposedModel) -> ProposedModel:
            if not model.is_whole or model.url is None:
                return model
            try:
                async with slots:
                    remote = await downloader.probe(
                        Download(url=model.url, folder=Path(), filename=model.filename, sha256=model.sha256)
                    )
            except WorkerError as error:
                cached = await asyncio.to_thread(cached_remote, model.url, settings) if _may_be_cached(error) else None
                if cached is None:
                    notes.append(error.message)
                    return model
                remote = cached
            return model.model_copy(update={"sha256": model.sha256 or remote.sha256, "size_bytes": remote.size_bytes})

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(model), name=f"ask for {model.filename}") for model in proposal.models]
    models = tuple(task.result() for task in tasks)
    return proposal.model_copy(update={"models": models, "not_looked_up": tuple(sorted(notes))})


def _may_be_cached(error: WorkerError) -> bool:
    """Tell whether a host was not asked, or did not answer: what it answers now goes before what it once said."""
    return error.details.get("reason") in {"offline", "unreachable", "timeout"}
