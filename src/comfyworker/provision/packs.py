"""The custom nodes of a config.yml: placed, given their packages, seen to load, and noted when all of that is so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.locate import Installation
from comfyworker.comfyui.renewal import mark_nodes_changed
from comfyworker.errors import NodeInstallFailed, WorkerError
from comfyworker.jobs import JobError
from comfyworker.provision.entries import Config, NodeEntry
from comfyworker.provision.lockfile import LockFile
from comfyworker.provision.nodes import PACKAGES_ITEM, NodePacks, ResolvedNode
from comfyworker.provision.options import ApplyOptions
from comfyworker.provision.place import STATE_NAME
from comfyworker.provision.plan import PlannedNode, Verdict
from comfyworker.provision.records import NODES_NAME, NodeRecord, NodesState, PackagesNote, Wish, read_nodes, write_note
from comfyworker.provision.reporting import Item, ItemResult, ItemStatus, ProvisionReporter
from comfyworker.provision.state import (
    environment_key,
    gone_nodes,
    has_packages,
    is_placed,
    node_of,
    packages_key,
    packages_note,
    proven_locks,
)

_AT_ONCE = 4
_LISTED = 12


class NodesPlan(BaseModel):
    """What is to be done about custom nodes."""

    model_config = ConfigDict(frozen=True)

    nodes: tuple[PlannedNode, ...]
    installs_packages: bool

    def items(self) -> list[Item]:
        """Return what a reporter hears of before it is done."""
        items = [node.item() for node in self.nodes if node.verdict is not Verdict.DISABLE]
        return [*items, PACKAGES_ITEM] if self.installs_packages else items


class NodeWork:
    """Makes the custom nodes of one ComfyUI true; for one process at a time."""

    def __init__(
        self,
        installation: Installation,
        packs: NodePacks,
        reporter: ProvisionReporter,
        *,
        options: ApplyOptions,
        wish: Wish = Wish.CONFIG,
    ) -> None:
        """Work on the custom nodes of `installation`, through `packs`, and note why (`wish`)."""
        self._installation = installation
        self._packs = packs
        self._reporter = reporter
        self._options = options
        self._wish = wish
        self._custom_nodes = installation.base_dir / "custom_nodes"
        self._folder = installation.base_dir / STATE_NAME
        self._environment = environment_key(installation)
        self._errors: dict[str, JobError] = {}
        self._seconds: dict[str, float] = {}

    async def plan(self, config: Config, lock: LockFile | None) -> NodesPlan:
        """Return what is to be done for a config; asks the sources of what is new."""
        state = await asyncio.to_thread(read_nodes, self._folder)
        asking = asyncio.Semaphore(_AT_ONCE)

        async def look(entry: NodeEntry) -> PlannedNode:
            async with asking:
                return await self._look(entry, state, lock)

        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(look(entry), name=f"look at {entry.url or entry.name}") for entry in config.nodes
            ]
        nodes: dict[str, PlannedNode] = {}
        for task in tasks:
            nodes.setdefault(task.result().folder, task.result())
        gone = gone_nodes(config, state) if self._wish is Wish.CONFIG else ()
        for folder in gone:
            nodes[folder] = PlannedNode(
                verdict=Verdict.DISABLE, entry=None, folder=folder, was=state.nodes[folder].resolved.lock(),
                reason="config.yml does not ask for it any more",
            )  # fmt: skip
        return NodesPlan(
            nodes=tuple(nodes.values()),
            installs_packages=self._installs_packages(config, state, tuple(nodes.values())),
        )

    async def _look(self, entry: NodeEntry, state: NodesState, lock: LockFile | None) -> PlannedNode:
        record = node_of(entry, state)
        locked = lock.node(entry) if lock else None
        try:
            folder = self._packs.folder_of(entry)
            is_there = record is not None and is_placed(record, self._custom_nodes) and not self._options.force
            if record is not None and is_there and (locked is None or locked.digest == record.resolved.digest):
                is_proven = record.environment == self._environment
                why = "ComfyUI or its Python is another than before" if record.environment else "it did not load before"
                return PlannedNode(
                    verdict=Verdict.PRESENT if is_proven else Verdict.UPDATE, entry=entry, folder=folder,
                    resolved=record.resolved.model_copy(update={"entry": entry}), was=record.resolved.lock(),
                    reason="" if is_proven else why,
                )  # fmt: skip
            resolved = await self._packs.resolve(entry, locked=locked)
        except WorkerError as error:
            name = entry.name or (entry.url or "").rstrip("/").rpartition("/")[2].removesuffix(".git")
            return PlannedNode(verdict=Verdict.UNKNOWN, entry=entry, folder=name, error=JobError.of(error))
        was = self._packs.placed().get(resolved.folder)
        is_update = was is not None and was.digest != resolved.digest
        return PlannedNode(
            verdict=Verdict.UPDATE if is_update else Verdict.FETCH, entry=entry, folder=resolved.folder,
            resolved=resolved, was=was, reason=f"{was.release or (was.commit or '')[:7]} is there" if was else "",
        )  # fmt: skip

    def _installs_packages(self, config: Config, state: NodesState, nodes: Sequence[PlannedNode]) -> bool:
        if any(node.verdict in {Verdict.FETCH, Verdict.UPDATE} for node in nodes):
            return True
        locks = proven_locks(state, self._environment)
        if not locks and not config.pip:
            return False  # what is left of earlier packages harms nobody
        return not has_packages(self._installation, packages_key(locks, config.pip, self._environment))

    def _others(self, nodes: Sequence[PlannedNode], state: NodesState) -> list[ResolvedNode]:
        """Return the custom nodes that are there by another wish, whose packages must go with the rest."""
        named = {node.folder for node in nodes}
        return [
            record.resolved
            for folder, record in state.nodes.items()
            if folder not in named and is_placed(record, self._custom_nodes)
        ]

    async def carry_out(self, config: Config, plan: NodesPlan) -> tuple[list[ItemResult], bool]:
        """Do what is to be done; return what came of each item, and whether ComfyUI has to be started anew.

        What fails is in the results, and all others are finished.

        Raises:
            InsufficientStorage: what was done cannot be noted.
            ProvisioningFailed: as above.
        """
        before = await asyncio.to_thread(read_nodes, self._folder)
        wanted = [node for node in plan.nodes if node.verdict is not Verdict.DISABLE]
        await self._place_all(wanted)
        await self._disable([node.folder for node in plan.nodes if node.verdict is Verdict.DISABLE])
        good = [node.resolved for node in wanted if node.resolved is not None and node.folder not in self._errors]
        kept = [*good, *self._others(plan.nodes, before)]
        results, has_new_packages = [], False
        if plan.installs_packages:
            result, has_new_packages = await self._prepare(kept, config)
            results.append(result)
        after = self._after(before, plan, kept)
        if plan.installs_packages:
            await asyncio.to_thread(self._note_packages, after, config)
        if after != before:
            await asyncio.to_thread(write_note, self._folder / NODES_NAME, after)
        has_changed = has_new_packages or after.nodes != before.nodes
        if has_changed:
            await asyncio.to_thread(self._mark)
        results += [self._result(node) for node in wanted]
        for ended in results:
            self._reporter.ended(ended)
        return results, has_changed

    async def _place_all(self, nodes: Sequence[PlannedNode]) -> None:
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def place(node: PlannedNode, resolved: ResolvedNode) -> None:
            async with at_once:
                self._reporter.begun(node.item())
                begun_at = time.monotonic()
                try:
                    await self._packs.place(resolved, anew=self._options.force)
                except WorkerError as error:
                    self._errors[node.folder] = JobError.of(error)
                self._seconds[node.folder] = time.monotonic() - begun_at
                self._reporter.stepped(node.item(), "placed")

        async with asyncio.TaskGroup() as group:
            for node in nodes:
                if node.error is not None:
                    self._errors[node.folder] = node.error
                elif node.resolved is not None and node.verdict is not Verdict.PRESENT:
                    group.create_task(place(node, node.resolved), name=f"place {node.folder}")

    async def _disable(self, folders: Sequence[str]) -> None:
        for folder in folders:
            if await self._packs.disable(folder):
                self._reporter.noted(f"{folder}: disabled, since config.yml does not ask for it any more.")

    async def _prepare(self, nodes: Sequence[ResolvedNode], config: Config) -> tuple[ItemResult, bool]:
        """Install packages, run install scripts, look whether all loads; return the result, and whether any is new."""
        begun_at = time.monotonic()
        changed: tuple[str, ...] = ()
        self._reporter.begun(PACKAGES_ITEM)
        # Until all is done, what the environment has is not what the note says.
        await asyncio.to_thread(packages_note(self._installation).unlink, missing_ok=True)
        try:
            outcome = await self._packs.install_requirements(nodes, config.pip)
            changed = outcome.changed
            self._fail(outcome.failed)
            self._fail(await self._packs.run_install_scripts(self._unfailed(nodes)))
            if self._options.checks_imports and nodes:
                await self._check_imports(self._unfailed(nodes))
        except WorkerError as error:
            seconds = time.monotonic() - begun_at
            failure = JobError.of(error)
            for node in nodes:
                self._errors.setdefault(node.folder, failure)
            return ItemResult(item=PACKAGES_ITEM, status=ItemStatus.FAILED, error=failure, seconds=seconds), bool(
                changed
            )
        if changed:
            more = f", and {len(changed) - _LISTED} more" if len(changed) > _LISTED else ""
            self._reporter.noted(f"Packages: {', '.join(changed[:_LISTED])}{more}.")
        seconds = time.monotonic() - begun_at
        return ItemResult(item=PACKAGES_ITEM, status=ItemStatus.DONE, seconds=seconds), bool(changed)

    async def _check_imports(self, nodes: Sequence[ResolvedNode]) -> None:
        for folder, seen in (await self._packs.check_imports(nodes)).items():
            if seen.error is not None:
                self._errors[folder] = JobError.of(seen.error)
            if seen.ends_comfyui:  # the whole worker would be down with it; placed again, it is enabled again
                await self._packs.disable(folder)
                self._reporter.noted(f"{folder}: disabled, since ComfyUI does not start with it.")

    def _fail(self, failed: dict[str, NodeInstallFailed]) -> None:
        for folder, error in failed.items():
            self._errors[folder] = JobError.of(error)

    def _unfailed(self, nodes: Sequence[ResolvedNode]) -> list[ResolvedNode]:
        return [node for node in nodes if node.folder not in self._errors]

    def _after(self, before: NodesState, plan: NodesPlan, kept: Sequence[ResolvedNode]) -> NodesState:
        """Return what is to be noted: what is ours, and of that what is proven to be good in this environment."""
        gone = {node.folder for node in plan.nodes if node.verdict is Verdict.DISABLE}
        nodes = {folder: record for folder, record in before.nodes.items() if folder not in gone}
        asked = {node.folder for node in plan.nodes}
        for node in kept:
            old = nodes.get(node.folder)
            is_by_hand = old is not None and (old.wish is Wish.HAND or node.folder not in asked)
            environment = "" if node.folder in self._errors else self._environment
            wish = old.wish if old is not None and is_by_hand else self._wish
            nodes[node.folder] = NodeRecord(resolved=node, environment=environment, wish=wish)
        return before.model_copy(update={"nodes": nodes})

    def _note_packages(self, after: NodesState, config: Config) -> None:
        key = packages_key(proven_locks(after, self._environment), config.pip, self._environment)
        try:
            write_note(packages_note(self._installation), PackagesNote(packages=key))
        except WorkerError as error:
            self._reporter.noted(f"{error.message}: the packages will be looked at again next time.")

    def _mark(self) -> None:
        try:
            mark_nodes_changed(self._installation.base_dir)
        except OSError as error:
            self._reporter.noted(f"A running worker could not be told of the change: {error.strerror}. Start it anew.")

    def _result(self, node: PlannedNode) -> ItemResult:
        error = self._errors.get(node.folder)
        if error is not None:
            status = ItemStatus.FAILED
        else:
            status = ItemStatus.PRESENT if node.verdict is Verdict.PRESENT else ItemStatus.DONE
        return ItemResult(item=node.item(), status=status, error=error, seconds=self._seconds.get(node.folder, 0.0))


def finish_nodes(folder: Path, digest: str) -> None:
    """Note that all custom nodes of the config with this digest are there. Blocks.

    Raises:
        InsufficientStorage: the disk is full.
        ProvisioningFailed: it cannot be noted.
    """
    state = read_nodes(folder)
    if state.config_sha256 != digest:
        write_note(folder / NODES_NAME, state.model_copy(update={"config_sha256": digest}))
