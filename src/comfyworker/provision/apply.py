"""A config.yml made true: what is missing is brought, what is there stays, what failed is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from comfyworker.errors import Problem, ProvisioningFailed, WorkerError
from comfyworker.jobs import JobError
from comfyworker.provision.arrivals import Arrivals
from comfyworker.provision.config.finding import ConfigOrigin, FoundConfig, write_config
from comfyworker.provision.download import Downloader, free_bytes
from comfyworker.provision.home.pinning import COMFYUI_ITEM, follow_version, foresee_version
from comfyworker.provision.inspection import ModelInspection
from comfyworker.provision.lockfile import LockFile, lock_path, make_lock, read_lock, write_lock
from comfyworker.provision.models import ModelWork, finish_models
from comfyworker.provision.nodes import NodePacks
from comfyworker.provision.options import ApplyOptions
from comfyworker.provision.packs import NodeWork, finish_nodes
from comfyworker.provision.place import ProvisionPlace
from comfyworker.provision.plan import Plan, PlannedModel
from comfyworker.provision.records import read_models, read_nodes
from comfyworker.provision.reporting import ItemResult, ItemStatus, ProvisionReporter, SilentReporter
from comfyworker.provision.sharing import MODELS_LEASE, NODES_LEASE, alone
from comfyworker.provision.state import Part, is_unchanged, is_version, node_of
from comfyworker.settings import ProvisionSettings, StoreSettings
from comfyworker.wording import summary

_PLAN_ATTEMPTS = 2
_PLAN_CONNECT_S = 5.0
_PLAN_READ_S = 10.0


class Applied(BaseModel):
    """What came of applying a config."""

    model_config = ConfigDict(frozen=True)

    results: tuple[ItemResult, ...] = ()
    is_unchanged: bool = False
    """Whether all was there already, so that nothing was looked at closely."""
    has_changed_nodes: bool = False
    """Whether ComfyUI has to be started anew to have its custom nodes as they are now."""
    lock_path: Path | None = None
    """The lock file, if it was written."""
    seconds: float = 0.0

    @property
    def failed(self) -> tuple[ItemResult, ...]:
        """Everything that could not be made ready."""
        return tuple(result for result in self.results if result.status in {ItemStatus.FAILED, ItemStatus.SKIPPED})

    @property
    def failed_required(self) -> tuple[ItemResult, ...]:
        """What the rest is no good without."""
        return tuple(result for result in self.failed if not result.item.optional)


class Provisioner:
    """Applies one config in one place, wholly or by its two halves, which may run at the same time.

    What fails is in the results; the rest is finished all the same. Killed at any moment, the next run goes on where
    it stopped. Of several workers on one volume one does the work, and the others wait for it.
    """

    def __init__(
        self,
        found: FoundConfig,
        place: ProvisionPlace,
        settings: ProvisionSettings,
        store: StoreSettings,
        *,
        reporter: ProvisionReporter | None = None,
        options: ApplyOptions | None = None,
    ) -> None:
        """Prepare; nothing is looked at yet.

        Args:
            found: The config.
            place: Where models and custom nodes go.
            settings: How things are fetched.
            store: The keys and endpoints of buckets.
            reporter: Who is told how far it is.
            options: What is asked for beside the config.
        """
        self.arrivals = Arrivals(found.config.models)
        """The models that are on their way."""
        self._found = found
        self._place = place
        self._settings = settings
        self._store = store
        self._reporter: ProvisionReporter = reporter or SilentReporter()
        self._options = options or ApplyOptions()
        self._lock_path: Path | None = None

    async def plan(self, only: Part | None = None) -> Plan:
        """Return what there is and what is to be done; nothing is changed.

        Hosts are asked briefly: what one that does not answer has stays unknown.

        Raises:
            ComfyUINotFound: there is nowhere to put something.
            InvalidConfig: the lock file does not fit.
        """
        lock = await self._lock()
        config = self._found.config
        models: tuple[PlannedModel, ...] = ()
        plan = Plan()
        if only != "models" and self._wants_nodes():
            nodes = await self._node_work(self._reporter).plan(config, lock)
            plan = Plan(nodes=nodes.nodes, installs_packages=nodes.installs_packages)
            plan = plan.model_copy(update=await self._plan_version())
        if only != "nodes" and config.models:
            folder = self._place.require_models()
            async with Downloader(_brief(self._settings), self._store) as downloader:
                inspection = self._inspection(downloader, lock, Arrivals(config.models), asks_briefly=True)
                models = await inspection.plan(config.models)
            free = await asyncio.to_thread(free_bytes, folder)
            plan = plan.model_copy(update={"models": models, "free_bytes": free})
        return plan

    async def apply(self, only: Part | None = None) -> Applied:
        """Make the config true, custom nodes and models at the same time; return what came of it.

        Raises:
            ComfyUINotFound: there is nowhere to put something.
            InvalidConfig: the lock file does not fit.
            InsufficientStorage: the disk has no room for all models that are required; none was begun.
            ProvisioningFailed: what was done cannot be noted.
        """
        begun_at = time.monotonic()
        halves = [
            half for part, half in (("nodes", self.apply_nodes), ("models", self.apply_models)) if only in (None, part)
        ]
        outcomes: list[Applied | WorkerError] = []

        async def do(half: Callable[[], Awaitable[Applied]]) -> None:
            try:
                outcomes.append(await half())
            except WorkerError as error:  # the other half is finished all the same
                outcomes.append(error)

        async with asyncio.TaskGroup() as group:
            for half in halves:
                group.create_task(do(half), name=f"apply {half.__name__}")
        for outcome in outcomes:
            if isinstance(outcome, WorkerError):
                raise outcome
        parts = [outcome for outcome in outcomes if isinstance(outcome, Applied)]
        return Applied(
            results=tuple(result for part in parts for result in part.results),
            is_unchanged=all(part.is_unchanged for part in parts),
            has_changed_nodes=any(part.has_changed_nodes for part in parts),
            lock_path=self._lock_path,
            seconds=time.monotonic() - begun_at,
        )

    async def apply_nodes(self) -> Applied:
        """Make the custom nodes true, and ComfyUI's packages for them; before ComfyUI starts.

        Raises:
            ComfyUINotFound, InvalidConfig, ProvisioningFailed: as `apply`.
        """
        if not await asyncio.to_thread(self._wants_nodes) or await self._is_done("nodes"):
            return Applied(is_unchanged=True)
        folder = self._place.require_installation().base_dir
        return await alone((self._place.nodes_state or folder) / NODES_LEASE, self._reporter, self._nodes)

    async def apply_models(self) -> Applied:
        """Make the models true; ComfyUI may run meanwhile. `arrivals` tells of each as it comes.

        Raises:
            ComfyUINotFound, InvalidConfig, InsufficientStorage, ProvisioningFailed: as `apply`.
        """
        try:
            if not self._found.config.models or await self._is_done("models"):
                self.arrivals.end_all()
                return Applied(is_unchanged=True)
            self._place.require_models()
            return await alone(self._place.models_state / MODELS_LEASE, self._reporter, self._models)
        except WorkerError as error:
            self.arrivals.end_all(JobError.of(error))
            raise

    async def _is_done(self, part: Part) -> bool:
        await asyncio.to_thread(self._write_config)
        if self._options.force or self._options.locked:
            return False
        is_done = await asyncio.to_thread(is_unchanged, self._found, self._place, only=part)
        if is_done and not await asyncio.to_thread(lock_path(self._found, self._place).exists):
            await self._finish(part)
        return is_done

    async def _models(self, reporter: ProvisionReporter) -> Applied:
        begun_at = time.monotonic()
        lock, config = await self._lock(), self._found.config
        async with Downloader(self._settings, self._store) as downloader:
            planned = await self._inspection(downloader, lock, self.arrivals).plan(config.models)
            reporter.planned([model.item() for model in planned])
            work = ModelWork(self._place, downloader, reporter, force=self._options.force)
            results = await work.carry_out(planned, self.arrivals)
        self.arrivals.end_all()
        if all(result.error is None for result in results):
            await self._finish("models")
        return Applied(results=tuple(results), seconds=time.monotonic() - begun_at)

    async def _nodes(self, reporter: ProvisionReporter) -> Applied:
        begun_at = time.monotonic()
        followed = await self._follow_version(reporter)
        work = self._node_work(reporter)
        plan = await work.plan(self._found.config, await self._lock())
        reporter.planned(plan.items())
        results, has_changed = await work.carry_out(self._found.config, plan)
        if followed is not None:
            reporter.ended(followed)
            results, has_changed = [followed, *results], has_changed or followed.error is None
        if all(result.error is None for result in results):
            await self._finish("nodes")
        return Applied(results=tuple(results), has_changed_nodes=has_changed, seconds=time.monotonic() - begun_at)

    def _inspection(
        self, downloader: Downloader, lock: LockFile | None, arrivals: Arrivals, *, asks_briefly: bool = False
    ) -> ModelInspection:
        state = read_models(self._place.models_state)
        options = self._options.model_copy(update={"asks_briefly": asks_briefly})
        return ModelInspection(self._place, state, downloader, options=options, lock=lock, arrivals=arrivals)

    async def _follow_version(self, reporter: ProvisionReporter) -> ItemResult | None:
        """Bring ComfyUI to the version that the config asks for, before custom nodes are looked at with it."""
        wanted, installation = self._found.config.comfyui_version, self._place.require_installation()
        if wanted is None or await asyncio.to_thread(is_version, wanted, installation):
            return None
        begun_at = time.monotonic()
        reporter.begun(COMFYUI_ITEM)
        repository = self._place.comfyui_repository
        followed = await follow_version(wanted, installation, self._settings, reporter, repository=repository)
        self._place = self._place.model_copy(update={"installation": followed.installation})
        status = ItemStatus.DONE if followed.error is None else ItemStatus.FAILED
        seconds = time.monotonic() - begun_at
        return ItemResult(item=COMFYUI_ITEM, status=status, error=followed.error, seconds=seconds)

    async def _plan_version(self) -> dict[str, object]:
        """Return what a plan says of ComfyUI's own version."""
        wanted, installation = self._found.config.comfyui_version, self._place.require_installation()
        if wanted is None or await asyncio.to_thread(is_version, wanted, installation):
            return {}
        repository = self._place.comfyui_repository
        title, error = await foresee_version(wanted, installation, self._settings, repository=repository)
        there = installation.version or "an unknown version"
        return {"comfyui_update": (there, title) if error is None else None, "comfyui_error": error}

    def _node_work(self, reporter: ProvisionReporter) -> NodeWork:
        installation = self._place.require_installation()
        packs = NodePacks(installation, self._settings, reporter)
        return NodeWork(installation, packs, reporter, options=self._options)

    def _wants_nodes(self) -> bool:
        config = self._found.config
        is_asked = bool(config.nodes or config.pip or config.comfyui_version)
        return is_asked or (self._place.nodes_state is not None and bool(read_nodes(self._place.nodes_state).nodes))

    async def _lock(self) -> LockFile | None:
        return await asyncio.to_thread(read_lock, self._found, self._place) if self._options.locked else None

    def _write_config(self) -> None:
        """Write what came by CONFIG_YML to the volume, where the next worker without it finds it."""
        if self._found.origin is not ConfigOrigin.VARIABLE or self._place.volume is None:
            return
        try:
            write_config(self._found, self._place.volume)
        except WorkerError as error:
            self._reporter.noted(f"{error.message}; CONFIG_YML is applied all the same.")

    async def _finish(self, part: Part) -> None:
        """Note that a half is true; once both are, write the lock file."""
        if part == "models" and self._found.config.models:
            await asyncio.to_thread(finish_models, self._place.models_state, self._found.digest)
        if part == "nodes" and self._place.nodes_state is not None and self._wants_nodes():
            await asyncio.to_thread(finish_nodes, self._place.nodes_state, self._found.digest)
        if self._options.locked or not await asyncio.to_thread(is_unchanged, self._found, self._place):
            return
        try:
            self._lock_path = await asyncio.to_thread(self._write_lock) or self._lock_path
        except WorkerError as error:
            self._reporter.noted(f"The lock file was not written: {error.message}.")

    def _write_lock(self) -> Path | None:
        found, place = self._found, self._place
        models, installation = read_models(place.models_state), place.installation
        nodes = read_nodes(place.nodes_state) if place.nodes_state is not None else None
        model_records = [models.find(entry) for entry in found.config.models]
        node_records = [node_of(entry, nodes) for entry in found.config.nodes] if nodes is not None else []
        lock = make_lock(
            found,
            models=[record for record in model_records if record is not None],
            nodes=[record for record in node_records if record is not None],
            comfyui=installation.version if installation and found.config.nodes else None,
        )
        return write_lock(lock, found, place)


def _brief(settings: ProvisionSettings) -> ProvisionSettings:
    """Return settings with which a host that does not answer is given up in seconds."""
    limits = {
        "attempts": min(settings.attempts, _PLAN_ATTEMPTS),
        "connect_timeout_s": min(settings.connect_timeout_s, _PLAN_CONNECT_S),
        "read_timeout_s": min(settings.read_timeout_s, _PLAN_READ_S),
    }
    return settings.model_copy(update=limits)


def raise_failures(results: Sequence[ItemResult]) -> None:
    """Raise what is required and could not be made ready, all of it in one error; nothing if there is no such thing.

    Raises:
        ProvisioningFailed: `problems` names each.
    """
    failed = [(result.item, result.error) for result in results if result.error and not result.item.optional]
    problems = [
        Problem(message=f"{item.title}: {error.message}", code=error.code, path=item.key) for item, error in failed
    ]
    if problems:
        hint = next((error.hint for _, error in failed if error.hint), None)
        is_retryable = all(error.retryable for _, error in failed)
        raise ProvisioningFailed(summary(problems), hint=hint, problems=problems, retryable=is_retryable)
