"""config.yml made true as a worker starts: custom nodes before ComfyUI, models meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from comfyworker.comfyui.settlement import find_unsettled
from comfyworker.errors import WorkerError
from comfyworker.finishing import beside, in_thread
from comfyworker.hosts.startup import COMFYUI, HOME, Startup
from comfyworker.provision.arrivals import Arrivals
from comfyworker.provision.reporting import Item, ItemKind, ItemResult, ItemStatus
from comfyworker.settings import Settings

if TYPE_CHECKING:  # they bring HTTP clients and YAML, which a worker without a config.yml never needs
    from comfyworker.provision.apply import Applied, Provisioner

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

NODES: Final = "nodes"
"""Custom nodes and packages, which ComfyUI's start waits for."""
MODELS: Final = "models"
"""Models, which only the jobs wait for that need them."""
_TELL_EVERY_S = 10.0


class Provisioning:
    """Makes one config.yml true while a worker starts; the pool and the pipeline wait for parts of it."""

    def __init__(self, provisioner: Provisioner, startup: Startup | None) -> None:
        """Let `provisioner` do it, and tell `startup` of the phases."""
        self._provisioner = provisioner
        self._startup = startup

    @property
    def arrivals(self) -> Arrivals:
        """The models that are on their way."""
        return self._provisioner.arrivals

    async def make_nodes(self) -> None:
        """Make custom nodes and packages ready; ComfyUI is started when this returns.

        Raises:
            ProvisioningFailed: something that is required failed.
            ComfyUINotFound: there is no ComfyUI on this disk to install into.
            InsufficientStorage: the disk is full.
        """
        from comfyworker.provision.apply import raise_failures  # noqa: PLC0415  # brings HTTP clients

        with self._phase(NODES):
            applied = await self._provisioner.apply_nodes()
        _log_applied(NODES, applied)
        raise_failures(applied.results)
        if self._startup is not None:
            self._startup.begin(COMFYUI)

    async def make_models(self) -> None:
        """Make models ready. What fails is logged, and is the answer to the jobs that need it."""
        try:
            with self._phase(MODELS, is_awaited=False):
                applied = await self._provisioner.apply_models()
        except WorkerError as error:
            log.error("provision.failed", part=MODELS, code=error.code, error=error.message)  # noqa: TRY400  # it is told
            return
        _log_applied(MODELS, applied)

    def _phase(self, name: str, *, is_awaited: bool = True) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self._startup is None else self._startup.phase(name, is_awaited=is_awaited)


@contextlib.asynccontextmanager
async def provisioning(
    settings: Settings, *, cwd: Path, startup: Startup | None = None
) -> AsyncIterator[Provisioning | None]:
    """Give what makes the config.yml true, if this worker shall do that and there is anything to do.

    Models are brought from now on.
    What is under way when the context ends goes on at the next start.

    Raises:
        InvalidConfig: the config.yml is wrong.
        ComfyUINotFound: a setting names a ComfyUI that is none.
        InsufficientStorage: the volume that ComfyUI shall live on is full.
        InstallFailed: ComfyUI could not be placed where it shall live.
    """
    await _settle(settings, cwd, startup)
    provisioner: Provisioner | None = None
    if settings.provision.at_start and settings.comfyui.api_urls:
        log.warning("provision.skipped", reason="the ComfyUI of COMFY_API_URL is not this worker's to change")
    elif settings.provision.at_start:
        provisioner = await _find_provisioner(settings, cwd)
    if provisioner is None:
        if startup is not None:
            startup.begin(COMFYUI)
        yield None
        return
    if startup is not None:
        startup.expect(COMFYUI)
    made_ready = Provisioning(provisioner, startup)
    async with beside(made_ready.make_models(), name="bringing models"):
        yield made_ready


async def _settle(settings: Settings, cwd: Path, startup: Startup | None) -> None:
    """See that ComfyUI is where it shall live; at all starts but the first that takes milliseconds."""
    if await in_thread(lambda: find_unsettled(settings.comfyui, cwd=cwd)) is None:
        return
    from comfyworker.provision.home import settle_comfyui  # noqa: PLC0415  # brings HTTP clients

    with contextlib.nullcontext() if startup is None else startup.phase(HOME):
        await settle_comfyui(settings.comfyui, settings.provision, cwd=cwd)


async def _find_provisioner(settings: Settings, cwd: Path) -> Provisioner | None:
    """Return what makes the config.yml true that applies; None if there is none, or it is true already."""
    from comfyworker.provision.config.finding import find_config  # noqa: PLC0415  # only where there may be one
    from comfyworker.provision.place import find_place  # noqa: PLC0415  # as above
    from comfyworker.provision.state import is_unchanged  # noqa: PLC0415  # as above

    place = await in_thread(lambda: find_place(settings.comfyui, settings.volume, cwd=cwd))
    found = await in_thread(lambda: find_config(settings.provision, volume=place.volume, cwd=cwd))
    if found is None:
        return None
    wanted = {"models": len(found.config.models), "nodes": len(found.config.nodes)}
    if await in_thread(lambda: is_unchanged(found, place)):
        log.info("provision.unchanged", origin=str(found.origin), **wanted)
        return None
    from comfyworker.provision.apply import Provisioner  # noqa: PLC0415  # brings HTTP clients

    log.info("provision.begun", origin=str(found.origin), **wanted)
    return Provisioner(found, place, settings.provision, settings.store, reporter=LogReporter())


def _log_applied(part: str, applied: Applied) -> None:
    failed = [result.item.title for result in applied.failed_required]
    fields = {"part": part, "unchanged": applied.is_unchanged, "items": len(applied.results)}
    told = log.error if failed else log.info
    told(
        "provision.failed" if failed else "provision.done",
        **fields,
        failed=failed,
        duration_s=round(applied.seconds, 3),
    )


class LogReporter:
    """Tells in the worker's log how far provisioning is; of one file at most every ten seconds."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._told_at: dict[str, float] = {}

    def planned(self, items: Sequence[Item]) -> None:
        """Log what will be done."""
        models = [item for item in items if item.kind is ItemKind.MODEL]
        total_bytes = sum(item.size_bytes or 0 for item in models)
        log.info("provision.planned", items=len(items), models_bytes=total_bytes)

    def begun(self, item: Item) -> None:
        """Log that an item is being worked at."""
        self._told_at[item.key] = time.monotonic()
        log.info("provision.item_begun", kind=str(item.kind), item=item.title, size_bytes=item.size_bytes)

    def fetched(self, item: Item, done_bytes: int, total_bytes: int | None) -> None:
        """Log how much of a file is there, now and then."""
        now = time.monotonic()
        if now - self._told_at.get(item.key, 0.0) >= _TELL_EVERY_S:
            self._told_at[item.key] = now
            log.info("provision.item_fetched", item=item.title, done_bytes=done_bytes, total_bytes=total_bytes)

    def stepped(self, item: Item, text: str) -> None:
        """Log what is being done for an item."""
        log.debug("provision.item_stepped", item=item.title, step=text)

    def ended(self, result: ItemResult) -> None:
        """Log what came of an item."""
        fields = {"kind": str(result.item.kind), "item": result.item.title, "status": str(result.status)}
        if result.error is not None:
            told = log.warning if result.item.optional else log.error
            told("provision.item_ended", **fields, error=result.error.message, hint=result.error.hint)
        elif result.status is not ItemStatus.PRESENT:
            log.info("provision.item_ended", **fields, duration_s=round(result.seconds, 3), bytes=result.fetched_bytes)

    def noted(self, text: str) -> None:
        """Log a sentence for people."""
        log.info("provision.noted", note=text)
