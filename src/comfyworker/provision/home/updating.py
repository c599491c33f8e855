"""ComfyUI brought to another version, and back: each in a tree of its own, proven before it takes the place.

Until the note in the home names the new tree, nothing of what serves has been changed: not its code, not its packages.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue

from comfyworker.comfyui.home import (
    ITSELF,
    HomeRecord,
    TreeRecord,
    read_home,
    tree_path,
    trees_folder,
    write_home,
)
from comfyworker.comfyui.install_record import read_record
from comfyworker.comfyui.installing.protocol import InstallReporter
from comfyworker.comfyui.installing.request import DEFAULT_REF
from comfyworker.comfyui.locate import Installation, refresh_comfyui
from comfyworker.comfyui.overlay import find_overlay, overlay_path, wants_overlay
from comfyworker.comfyui.renewal import mark_nodes_changed
from comfyworker.comfyui.running import CommandFailed, run_command
from comfyworker.errors import InstallFailed
from comfyworker.finishing import in_thread
from comfyworker.provision.entries import LATEST
from comfyworker.provision.home.environments import make_overlay
from comfyworker.provision.home.proving import Proof, prove
from comfyworker.provision.home.sharing import alone_in
from comfyworker.provision.home.trees import (
    Target,
    bring,
    clear_leftovers,
    image_target,
    lay_data_folders,
    named_disk_faults,
    package_target,
    prune,
    require_room,
    resolve_git,
    size_of,
    tree_of,
)
from comfyworker.provision.nodes.versions import same_release
from comfyworker.settings import ProvisionSettings

_STEPS = 4
_PACKAGES_BYTES = 256 * 1024 * 1024
"""Room for what a version needs beyond the one before: mostly ComfyUI's frontend and templates."""


class Update(BaseModel):
    """What an update would do, or has done."""

    model_config = ConfigDict(frozen=True)

    current: TreeRecord
    """What was there before."""
    target: Target
    is_there: bool
    """Whether it is the current one already; then nothing is done."""
    is_fetched: bool = False
    """Whether its tree is in the home already."""
    needed_bytes: int = 0
    tree: TreeRecord | None = None
    """What is current now; None if nothing was done."""
    proof: Proof | None = None


class Updater:
    """Changes the version of the ComfyUI in one home."""

    def __init__(
        self,
        installation: Installation,
        settings: ProvisionSettings,
        reporter: InstallReporter,
        *,
        repository: str,
        image_path: Path | None = None,
    ) -> None:
        """Prepare; nothing is looked at yet.

        Args:
            installation: The ComfyUI as it is.
            settings: How things are fetched.
            reporter: Hears what is done.
            repository: Where versions are fetched from.
            image_path: The ComfyUI of the image, if there is one.
        """
        self._installation = installation
        self._home = installation.home
        self._base = installation.base_python
        self._settings = settings
        self._reporter = reporter
        self._repository = repository
        self._image_path = image_path

    async def plan(self, wanted: str = LATEST, *, source: str = "auto") -> Update:
        """Return what an update to a version would do; nothing is changed.

        Args:
            wanted: `latest`, `nightly`, a tag, a branch or a commit.
            source: `git`, `package`, `image`, or `auto`: git, else, where that cannot be asked, the package.

        Raises:
            InstallFailed: there is no such version, or its source cannot be asked.
        """
        target = await self._find(wanted, source)
        current = await describe_current(self._installation)
        is_fetched = (trees_folder(self._home) / target.name / "main.py").is_file()
        size = 0 if is_fetched else await in_thread(lambda: size_of(self._installation.path))
        return Update(
            current=current, target=target, is_there=target.is_tree(current), is_fetched=is_fetched,
            needed_bytes=2 * size + _PACKAGES_BYTES,
        )  # fmt: skip

    async def update(self, wanted: str = LATEST, *, source: str = "auto", force: bool = False) -> Update:
        """Bring ComfyUI to a version, prove that it starts, and have it take the place; return what was done.

        Workers that run the one before start the new one as soon as no job is on them. Interrupted at any point, the
        one before is as it was, and the next call goes on with what was fetched.

        Args:
            wanted: As in `plan`.
            source: As in `plan`.
            force: Take it although custom nodes do not load with it that did before.

        Raises:
            InstallFailed: it cannot be had, does not start, or custom nodes fail with it.
            InsufficientStorage: the disk is full.
        """
        self._step(1, "Look which version that is")
        plan = await self.plan(wanted, source=source)
        if plan.is_there:
            return plan
        with named_disk_faults("ComfyUI's folder"):
            return await alone_in(self._home, lambda: self._update(plan, force=force), note=self._reporter.note)

    async def rollback(self) -> HomeRecord:
        """Have the version before take the place again; return what is current and what is before it now.

        Raises:
            InstallFailed: there is none.
        """
        with named_disk_faults("ComfyUI's folder"):
            return await alone_in(self._home, self._rollback, note=self._reporter.note)

    async def _find(self, wanted: str, source: str) -> Target:
        if source == "image":
            return image_target(self._image_path)
        if source == "package":
            return package_target(wanted)
        try:
            return await resolve_git(wanted, self._repository, self._settings, self._reporter.note)
        except InstallFailed as error:
            if source == "git" or not error.retryable or same_release(wanted, [DEFAULT_REF]) is None:
                raise
            self._reporter.note(f"ComfyUI's repository does not answer: {DEFAULT_REF} is taken from the package.")
            return package_target(wanted)

    async def _update(self, plan: Update, *, force: bool) -> Update:
        # Another worker may have done it while this one waited.
        self._installation = await in_thread(lambda: refresh_comfyui(self._installation))
        current = await describe_current(self._installation)
        if plan.target.is_tree(current):
            return plan.model_copy(update={"current": current, "is_there": True})
        plan = plan.model_copy(update={"current": current})
        await in_thread(lambda: clear_leftovers(self._home))
        await in_thread(lambda: require_room(self._home, plan.needed_bytes, f"ComfyUI {plan.target.title}"))
        self._step(2, f"Bring ComfyUI {plan.target.title}")
        tree = await bring(plan.target, self._home, self._repository, self._settings, self._base, self._reporter)
        path = tree_path(self._home, tree.name)
        self._step(3, "Bring what it needs, beside what is there")
        try:
            python = await make_overlay(
                self._home, path, self._base, current=self._installation.python, on_line=self._reporter.line,
                note=self._reporter.note,
            )  # fmt: skip
            self._step(4, "Start it once, with the custom nodes that are there")
            proof = await self._prove(tree, path, python, force=force)
        except InstallFailed:
            await self._forget(path)
            raise
        await in_thread(lambda: self._switch(HomeRecord(current=tree, previous=plan.current), path))
        return plan.model_copy(update={"tree": tree, "proof": proof})

    async def _prove(self, tree: TreeRecord, path: Path, python: Path, *, force: bool) -> Proof:
        """Start the new version; only if custom nodes fail with it, the old one too, to see whether it is the cause."""
        changes = {"path": path, "python": python, "version": tree.version}
        proof = await prove(self._installation.model_copy(update=changes), on_line=self._reporter.line)
        if not proof.failed_nodes or force:
            return proof
        before = await prove(self._installation, on_line=self._reporter.line)
        broken = [name for name in proof.failed_nodes if name in before.loaded_nodes]
        if broken:
            raise InstallFailed(
                f"with ComfyUI {tree.title} {_plural(broken)} that {'load' if len(broken) > 1 else 'loads'} now: "
                f"{', '.join(broken)}",
                hint="Take newer versions of them first (`comfyworker nodes update`), or take it all the same with "
                "--force. The ComfyUI that was there before is as it was.",
                details={"nodes": list[JsonValue](broken)},
            )
        return proof

    async def _forget(self, path: Path) -> None:
        """Take back what an update made that came to nothing; what another tree uses stays."""
        record = await in_thread(lambda: read_home(self._home))
        named = {record.current.name, record.previous.name if record.previous else ""} if record else set()
        if path == self._home or path.name in named:
            return
        environment = overlay_path(self._home, path, self._base)
        shared = {
            overlay_path(self._home, tree_path(self._home, name), self._base) for name in (named or {ITSELF}) if name
        }
        if environment is not None and environment not in shared:
            await _remove(environment)
        await _remove(path)

    async def _rollback(self) -> HomeRecord:
        record = await in_thread(lambda: read_home(self._home))
        if record is None or record.previous is None:
            raise InstallFailed(
                "there is no version of ComfyUI to go back to: it was not updated here",
                hint="`comfyworker comfyui update --to` brings a version by its tag.",
            )
        path = await in_thread(lambda: tree_of(self._home, record.previous or record.current))
        is_wanted = wants_overlay(self._home, path, self._base)
        if is_wanted and find_overlay(self._home, path, self._base) is None:
            self._reporter.note("Its packages are made anew, since the Python environment is another one than then.")
            await make_overlay(
                self._home, path, self._base, current=self._installation.python, on_line=self._reporter.line,
                note=self._reporter.note,
            )  # fmt: skip
        turned = HomeRecord(current=record.previous, previous=record.current)
        await in_thread(lambda: self._switch(turned, path))
        return turned

    def _switch(self, record: HomeRecord, tree: Path) -> None:
        if record.current.name != ITSELF:
            lay_data_folders(tree, self._installation.base_dir)
        write_home(self._home, record)
        try:
            mark_nodes_changed(self._installation.base_dir)
        except OSError as error:
            self._reporter.note(f"A running worker could not be told of it: {error.strerror}. Start it anew.")
        removed = prune(self._home, record)
        if removed:
            self._reporter.note(f"Removed, since it is older than the version before: {', '.join(removed)}.")

    def _step(self, number: int, title: str) -> None:
        self._reporter.step(number, _STEPS, title)


async def describe_current(installation: Installation) -> TreeRecord:
    """Return what is current in a home, also where nothing is noted of it."""
    record = await in_thread(lambda: read_home(installation.home))
    if record is not None:
        return record.current
    made = await in_thread(lambda: read_record(installation.path))
    return TreeRecord(
        name=ITSELF,
        version=installation.version,
        ref=made.ref if made is not None else None,
        commit=await _commit_of(installation.path),
        source=made.source if made is not None and made.source in {"git", "package"} else None,
    )


async def _commit_of(folder: Path) -> str | None:
    if not (folder / ".git").exists():
        return None
    command = ["git", "-c", "safe.directory=*", "-C", str(folder), "rev-parse", "--verify", "HEAD"]
    with contextlib.suppress(CommandFailed, ValueError):
        *_, commit = await run_command(command, limit_s=20.0)
        return commit
    return None


async def _remove(folder: Path) -> None:
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _plural(names: list[str]) -> str:
    return "custom nodes do not load" if len(names) > 1 else "a custom node does not load"
