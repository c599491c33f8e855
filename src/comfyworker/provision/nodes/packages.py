"""The packages of all custom nodes together, in ComfyUI's environment: one resolution, in which torch stays.

uv does the work: what is installed counts as met, what is missing is added, nothing is taken away. The versions of the
torch stack are constraints, ComfyUI's own requirements are part of every resolution, so no pack can break either.
Where all cannot be had together, packs are left out until the rest can, the earlier in config.yml first.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.running import CommandFailed
from comfyworker.errors import NodeInstallFailed
from comfyworker.provision.nodes.installer import Attempt, Installer, Plan, is_network_failure
from comfyworker.provision.nodes.records import PackagesOutcome
from comfyworker.provision.nodes.requirements import Need, Needs
from comfyworker.redaction import redact
from comfyworker.wording import clip

KEPT = frozenset({"torch", "torchvision", "torchaudio"})
"""Packages that no custom node's requirements may bring or change."""
_STACK = re.compile(r"torch|torchvision|torchaudio|triton|pytorch-triton[\w-]*|nvidia-[\w-]+|cuda-[\w-]+")
_CAUSE = re.compile(r"\b(Because\b.*)", re.DOTALL)
_CLIPPED = 400


class Group(BaseModel):
    """What one custom node needs."""

    model_config = ConfigDict(frozen=True)

    folder: str
    needs: Needs


class Packages:
    """Installs the packages of custom nodes."""

    def __init__(self, installer: Installer, own: Needs, pip: Needs, note: Callable[[str], None]) -> None:
        """Keep what belongs to every resolution.

        Args:
            installer: Runs uv.
            own: ComfyUI's requirements.
            pip: What config.yml itself asks for.
            note: Hears what was left out, in sentences.
        """
        self._installer = installer
        self._own = own
        self._pip = pip
        self._note = note

    async def install(self, groups: Sequence[Group]) -> PackagesOutcome:
        """Install what the groups need, as many of them as can be had together.

        Raises:
            NodeInstallFailed: what config.yml's `pip` asks for, or ComfyUI itself needs, cannot be had.
        """
        installed = await self._installer.list_installed()
        failed = {group.folder: _unreadable(group) for group in groups if group.needs.problems}
        groups = [self._without_torch(group, installed) for group in groups if group.folder not in failed]
        self._tell_notes(groups)
        with tempfile.TemporaryDirectory(prefix="comfyworker-packages-") as folder:
            trial = _Trial(self._installer, Path(folder), self._base(installed), installed)
            attempt = await trial.run(groups, is_dry=True)
            if attempt.error is not None:
                groups, more = await self._sort_out(trial, groups, is_dry=True)
                failed |= more
                attempt = await trial.run(groups, is_dry=True)
            is_done = bool(attempt.changed) or self._installer.is_interrupted()
            if is_done:
                attempt = await trial.run(groups, is_dry=False)
                if attempt.error is not None:
                    # What can be resolved cannot always be built.
                    groups, more = await self._sort_out(trial, groups, is_dry=False)
                    failed |= more
        changed = _describe(installed, await self._installer.list_installed()) if is_done else ()
        return PackagesOutcome(changed=changed, failed=failed)

    def _base(self, installed: dict[str, str]) -> Needs:
        # A requirement of ComfyUI that is not installed was left out on purpose, as torchaudio beside a CPU's torch.
        own = [need for need in self._own.needs if need.name in installed and need.name not in KEPT]
        pip = [need for need in self._pip.needs if need.name not in KEPT]
        left_out = [need.text for need in self._pip.needs if need.name in KEPT]
        if left_out:
            self._note(f"`pip` of config.yml: {', '.join(left_out)} is left out, since ComfyUI's torch stays as it is.")
        if self._pip.problems:
            raise NodeInstallFailed(
                f"`pip` of config.yml: {'; '.join(self._pip.problems)}", hint="Write them as `name>=1.0,<2`."
            )
        return self._pip.model_copy(update={"needs": (*own, *pip)})

    def _without_torch(self, group: Group, installed: dict[str, str]) -> Group:
        kept = [need for need in group.needs.needs if need.name in KEPT]
        asked = [need.text for need in kept if not _is_met(need, installed)]
        if asked:
            there = ", ".join(f"{name} {installed[name]}" for name in sorted(KEPT & installed.keys()))
            self._note(
                f"{group.folder}: asks for {', '.join(asked)}; ComfyUI's {there or 'environment'} stays as it is."
            )
        needs = tuple(need for need in group.needs.needs if need.name not in KEPT)
        return group.model_copy(update={"needs": group.needs.model_copy(update={"needs": needs})})

    def _tell_notes(self, groups: Sequence[Group]) -> None:
        for group in groups:
            for note in group.needs.notes:
                self._note(f"{group.folder}: {note}.")

    async def _sort_out(
        self, trial: _Trial, groups: Sequence[Group], *, is_dry: bool
    ) -> tuple[list[Group], dict[str, NodeInstallFailed]]:
        """Return the groups that can be had together, and why each other one cannot."""
        await self._require_base(trial, is_dry=is_dry)
        kept: list[Group] = []
        failed: dict[str, NodeInstallFailed] = {}
        for group in groups:
            error = (await trial.run([*kept, group], is_dry=is_dry)).error
            if error is None:
                kept.append(group)
            else:
                failed[group.folder] = await self._explain(trial, group, kept, error)
        return kept, failed

    async def _require_base(self, trial: _Trial, *, is_dry: bool) -> None:
        error = (await trial.run([], is_dry=is_dry)).error
        if error is None:
            return
        whose = "what `pip` of config.yml asks for" if self._pip.needs else "what ComfyUI's own requirements ask for"
        raise NodeInstallFailed(
            f"{whose} cannot be installed: {_cause(error)}",
            hint="Is the network up? Then look at the names and versions there.",
            details={"output": redact("\n".join(error.tail))},
            retryable=is_network_failure(error),
        ) from error

    async def _explain(
        self, trial: _Trial, group: Group, kept: Sequence[Group], error: CommandFailed
    ) -> NodeInstallFailed:
        """Say why a group cannot be had beside those that are kept."""
        if is_network_failure(error):
            return NodeInstallFailed(
                f"{group.folder}: its packages could not be fetched", hint="Is the network up? Apply again.",
                details={"output": redact("\n".join(error.tail))}, retryable=True,
            )  # fmt: skip
        alone = (await trial.run([group], is_dry=True)).error
        if alone is None and kept:
            return await self._explain_conflict(trial, group, kept, error)
        error = alone or error
        is_conflict = "No solution found" in "\n".join(error.tail)
        what = "cannot be met beside ComfyUI's own packages" if is_conflict else "cannot be installed"
        return NodeInstallFailed(
            f"{group.folder}: its requirements {what}: {_cause(error)}",
            hint="Another version of it may ask for less; see its requirements.txt.",
            details={"output": redact("\n".join(error.tail))},
        )

    async def _explain_conflict(
        self, trial: _Trial, group: Group, kept: Sequence[Group], error: CommandFailed
    ) -> NodeInstallFailed:
        for other in kept:
            found = (await trial.run([other, group], is_dry=True)).error
            if found is None:
                continue
            wants = _wants(group, other, found)
            return NodeInstallFailed(
                f"{group.folder}: its requirements conflict with those of {other.folder}: {wants or _cause(found)}",
                hint=f"{other.folder} comes first in config.yml and got its packages. Choose other versions of the "
                "two, or do without one.",
                details={"conflicts_with": other.folder, "output": redact("\n".join(found.tail))},
            )
        others = ", ".join(other.folder for other in kept)
        return NodeInstallFailed(
            f"{group.folder}: its requirements conflict with those of {others} together: {_cause(error)}",
            hint="These come first in config.yml and got their packages. Choose other versions.",
            details={"output": redact("\n".join(error.tail))},
        )


class _Trial:
    """Runs the resolver on some of the groups, together with what belongs to all."""

    def __init__(self, installer: Installer, folder: Path, base: Needs, installed: dict[str, str]) -> None:
        self._installer = installer
        self._folder = folder
        self._base = base
        self._constraints = torch_stack(installed)

    async def run(self, groups: Sequence[Group], *, is_dry: bool) -> Attempt:
        all_needs = [self._base, *(group.needs for group in groups)]
        plan = Plan(
            folder=self._folder,
            requirements=tuple(dict.fromkeys(need.text for needs in all_needs for need in needs.needs)),
            constraints=self._constraints,
            indexes=tuple(dict.fromkeys(index for needs in all_needs for index in needs.indexes)),
            links=tuple(dict.fromkeys(link for needs in all_needs for link in needs.links)),
        )
        return await self._installer.run(plan, is_dry=is_dry)


def torch_stack(installed: dict[str, str]) -> tuple[str, ...]:
    """Return the constraints that keep torch, and what it was built with, as they are."""
    pins = {name: version for name, version in installed.items() if _STACK.fullmatch(name)}
    return tuple(f"{name}=={version}" for name, version in sorted(pins.items()))


def _unreadable(group: Group) -> NodeInstallFailed:
    return NodeInstallFailed(
        f"{group.folder}: {'; '.join(group.needs.problems)}",
        hint="Another version of it may be right. With `pip` in config.yml its packages can be named instead.",
    )


def _is_met(need: Need, installed: dict[str, str]) -> bool:
    if need.name not in installed:
        return False
    try:
        requirement = Requirement(need.text)
    except InvalidRequirement:
        return False
    return requirement.url is None and requirement.specifier.contains(installed[need.name], prereleases=True)


def _wants(group: Group, other: Group, error: CommandFailed) -> str:
    """Return which requirements of the two are about the same package, where the resolver speaks of it."""
    text = "\n".join(error.tail).lower()
    own = {need.name: need.text for need in group.needs.needs if need.name and need.name in text}
    theirs = {need.name: need.text for need in other.needs.needs if need.name in own}
    both = [name for name in own if name in theirs and own[name] != theirs[name]]
    return "; ".join(f"{group.folder} wants {own[name]}, {other.folder} wants {theirs[name]}" for name in both)


def _cause(error: CommandFailed) -> str:
    text = "\n".join(error.tail)
    found = _CAUSE.search(text)
    return clip(redact(found.group(1) if found else text.removeprefix("error: ") or str(error)), _CLIPPED)


def _describe(before: dict[str, str], after: dict[str, str]) -> tuple[str, ...]:
    changed = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old != new:
            changed.append(f"{name} {new}" if old is None else f"{name} {old} → {new or 'removed'}")
    return tuple(changed)
