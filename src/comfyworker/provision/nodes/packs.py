"""All custom nodes of one ComfyUI: found, placed, given what they need, and seen to load."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from comfyworker.comfyui.locate import Installation
from comfyworker.errors import NodeInstallFailed
from comfyworker.provision.entries import NodeEntry
from comfyworker.provision.nodes.git import Git
from comfyworker.provision.nodes.importing import ImportCheck
from comfyworker.provision.nodes.installer import Installer
from comfyworker.provision.nodes.known_fixes import find_fixes
from comfyworker.provision.nodes.packages import Group, Packages
from comfyworker.provision.nodes.placing import Placer, describe_os_error
from comfyworker.provision.nodes.records import ImportOutcome, LockedNode, PackagesOutcome, ResolvedNode
from comfyworker.provision.nodes.registry import Registry
from comfyworker.provision.nodes.requirements import Needs, parse_needs, read_needs
from comfyworker.provision.nodes.resolving import Resolver, folder_of
from comfyworker.provision.nodes.scripts import run_install_script
from comfyworker.provision.nodes.shelf import Shelf
from comfyworker.provision.reporting import Item, ItemKind, ProvisionReporter
from comfyworker.settings import ProvisionSettings

PACKAGES_ITEM = Item(key="packages", kind=ItemKind.PACKAGES, title="packages of the custom nodes")
IMPORT_LIMIT_S = 900.0


class NodePacks:
    """The custom nodes in one ComfyUI's custom_nodes.

    For one process at a time per folder: the lease on the volume sees to that. Killed at any point, it finds with the
    next call what was left and goes on from there.
    """

    def __init__(self, installation: Installation, settings: ProvisionSettings, reporter: ProvisionReporter) -> None:
        """Keep which ComfyUI, how things are fetched, and who is told."""
        self._installation = installation
        self._settings = settings
        self._reporter = reporter
        self._shelf = Shelf(installation.base_dir / "custom_nodes")
        self._is_recovered = False
        self._recovery = asyncio.Lock()
        git = Git(limit_s=settings.git_timeout_s, token=settings.github_token)
        registry = Registry(
            settings.comfy_registry_url, connect_s=settings.connect_timeout_s, read_s=settings.read_timeout_s
        )
        self._resolver = Resolver(git, registry, reporter.noted)
        self._placer = Placer(self._shelf, git, registry, reporter)

    def folder_of(self, entry: NodeEntry) -> str:
        """Return the folder in custom_nodes that an entry is meant for; asks nobody.

        Raises:
            NodeInstallFailed: its URL or name gives none.
        """
        return folder_of(entry)

    def placed(self) -> dict[str, LockedNode]:
        """Return the custom nodes of ours that ComfyUI would load now, by folder; asks nobody."""
        records = {name: self._shelf.read(name) for name in self._shelf.names()}
        return {name: record.locked for name, record in records.items() if record is not None}

    async def resolve(self, entry: NodeEntry, *, locked: LockedNode | None = None) -> ResolvedNode:
        """Return what an entry is now, without fetching it; with `locked`, what it was then.

        Raises:
            NodeInstallFailed: there is no such repository, node or version; or nobody could be asked (then retryable).
        """
        return await self._resolver.resolve(entry, locked)

    async def place(self, node: ResolvedNode, *, anew: bool = False) -> bool:
        """See that a custom node is in its folder at its version; return whether anything was done.

        The old version stays until the new one is whole. What the pack itself wrote into its folder goes along; a
        folder in which a user changed files is kept under another name, and the reporter told so. With `anew` it is
        made anew even if it is there at that version.

        Raises:
            NodeInstallFailed: it could not be had, its folder holds something else, or the disk is full; what was
                there is still there.
        """
        try:
            await self._recover()
            return await self._placer.place(node, anew=anew)
        except OSError as error:
            raise describe_os_error(error, node.folder) from error

    async def install_requirements(self, nodes: Sequence[ResolvedNode], pip: Sequence[str]) -> PackagesOutcome:
        """Install what the custom nodes and `pip` need, in one resolution with ComfyUI's own requirements.

        torch and what belongs to it stay as they are. Custom nodes whose requirements do not go with the rest are left
        out, the later in `nodes` first. With everything there already it takes a fraction of a second, without network.

        Raises:
            NodeInstallFailed: what `pip` asks for cannot be had, or the environment cannot be read.
        """
        own = await asyncio.to_thread(read_needs, self._installation.path)
        wanted = parse_needs(pip, source="`pip`")
        groups = [await asyncio.to_thread(self._read_group, node) for node in nodes]
        return await Packages(self._installer(), own or Needs(), wanted, self._reporter.noted).install(groups)

    async def run_install_scripts(self, nodes: Sequence[ResolvedNode]) -> dict[str, NodeInstallFailed]:
        """Run each custom node's install.py, if it has one that was not run at this version; return which failed."""
        failed: dict[str, NodeInstallFailed] = {}
        for node in nodes:
            item = node.item()
            try:
                await run_install_script(
                    self._installation, self._shelf.path / node.folder, limit_s=self._settings.node_install_timeout_s,
                    on_line=partial(self._reporter.stepped, item),
                )  # fmt: skip
            except NodeInstallFailed as error:
                failed[node.folder] = error
            except OSError as error:
                failed[node.folder] = describe_os_error(error, node.folder)
        return failed

    async def check_imports(self, nodes: Sequence[ResolvedNode]) -> dict[str, ImportOutcome]:
        """Start ComfyUI once, on CPU and without serving, and return of each custom node whether it loads.

        Raises:
            NodeInstallFailed: ComfyUI does not start, and no custom node is the cause.
        """
        check = ImportCheck(
            self._installation, limit_s=IMPORT_LIMIT_S, on_line=lambda line: self._reporter.stepped(PACKAGES_ITEM, line)
        )
        return await check.run([node.folder for node in nodes])

    async def disable(self, folder: str) -> bool:
        """Have ComfyUI pass over a custom node of ours: its folder is renamed to `<folder>.disabled`.

        Returns:
            Whether it was there and is ours; one that somebody placed by hand is left alone.

        Raises:
            NodeInstallFailed: custom_nodes cannot be written.
        """
        try:
            await self._recover()
            return self._disable(folder)
        except OSError as error:
            raise describe_os_error(error, folder) from error

    def _disable(self, folder: str) -> bool:
        if folder not in self._shelf.names():
            return False
        if self._shelf.read(folder) is None:
            self._reporter.noted(f"{folder}: was placed by hand and is left as it is.")
            return False
        self._shelf.disable(folder)
        return True

    def _installer(self) -> Installer:
        return Installer(
            self._installation.python, limit_s=self._settings.node_install_timeout_s,
            on_line=lambda line: self._reporter.stepped(PACKAGES_ITEM, line),
        )  # fmt: skip

    def _read_group(self, node: ResolvedNode) -> Group:
        needs = read_needs(self._shelf.path / node.folder)
        if needs is None:
            needs = parse_needs(node.requirements, source="the registry's requirements")
        for fix in find_fixes(node):
            self._reporter.noted(f"{node.folder}: {', '.join(fix.requirements)} added, since {fix.reason}.")
            more = parse_needs(fix.requirements, source="known_fixes.toml")
            needs = needs.model_copy(update={"needs": (*needs.needs, *more.needs)})
        return Group(folder=node.folder, needs=needs)

    async def _recover(self) -> None:
        # Before anything is made: what is in the making would look like something that was left.
        async with self._recovery:
            if self._is_recovered:
                return
            for folder in await asyncio.to_thread(self._shelf.recover):
                self._reporter.noted(f"{folder}: an update was cut off; the version before it is in place again.")
            self._is_recovered = True
