"""uv, run on ComfyUI's environment."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import uv
from packaging.utils import canonicalize_name
from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.launching import child_environment
from comfyworker.comfyui.running import CommandFailed, ignore_line, run_command
from comfyworker.errors import NodeInstallFailed
from comfyworker.settings import process_environment

JOURNAL_NAME = "comfyworker-installing.json"
_LIST_LIMIT_S = 60.0
_CHANGE = re.compile(r"^\s*[-+~] ([A-Za-z0-9][\w.-]*)==\S+")
_NETWORK = re.compile(
    r"error sending request|dns error|Could not connect|Connection (?:refused|reset|timed out)|operation timed out|"
    r"Network is unreachable|Failed to (?:download|fetch)|"
    r"\b50[0234]\b (?:Bad|Service|Internal|Gateway)"
)


class Plan(BaseModel):
    """What uv shall see to."""

    model_config = ConfigDict(frozen=True)

    folder: Path
    """Where files for uv are written; nothing else's configuration lies there or above."""
    requirements: tuple[str, ...]
    constraints: tuple[str, ...]
    indexes: tuple[str, ...] = ()
    links: tuple[str, ...] = ()


class Attempt(BaseModel):
    """What came of a run of uv."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    changed: tuple[str, ...] = ()
    """Names of the packages that were, or would be, put in, taken out or changed."""
    error: CommandFailed | None = None


class Installer:
    """Runs uv on one environment.

    While packages are being put in, their names stand in a journal in the environment: killed in the middle, a package
    may count as installed and lack half of its files. The next run puts those in anew.
    """

    def __init__(self, python: Path, *, limit_s: float, on_line: Callable[[str], None] = ignore_line) -> None:
        """Keep the environment's interpreter, how long a run may take, and who hears uv."""
        self._python = python
        self._limit_s = limit_s
        self._on_line = on_line
        self._journal = python.parent.parent / JOURNAL_NAME

    async def list_installed(self) -> dict[str, str]:
        """Return the packages in the environment: normalised name → version.

        Raises:
            NodeInstallFailed: the environment cannot be read.
        """
        lines: list[str] = []
        command = [uv.find_uv_bin(), "pip", "list", "--quiet", "--format", "json", *self._target()]
        try:
            await run_command(command, on_line=lines.append, environment=self._environment(), limit_s=_LIST_LIMIT_S)
            rows = json.loads("".join(lines))
        except (CommandFailed, ValueError) as error:
            raise NodeInstallFailed(
                "the packages in ComfyUI's environment could not be listed", hint="Is COMFYUI_PYTHON right?"
            ) from error
        return {canonicalize_name(row["name"]): row["version"] for row in rows}

    def is_interrupted(self) -> bool:
        """Tell whether an earlier run was killed while it put packages in."""
        return bool(self._interrupted())

    async def run(self, plan: Plan, *, is_dry: bool) -> Attempt:
        """Have uv see to a plan; with `is_dry` nothing is changed, and the answer is what would be."""
        if is_dry:
            return await self._call(plan, ["--dry-run"], ignore_line)
        interrupted = self._interrupted()
        foreseen = await self._call(plan, ["--dry-run"], ignore_line)
        if foreseen.error is not None:
            return foreseen
        if not foreseen.changed and not interrupted:
            return foreseen
        names = sorted({*interrupted, *foreseen.changed})
        self._journal.write_text(json.dumps(names), encoding="utf-8")
        again = [word for name in interrupted for word in ("--reinstall-package", name)]
        done = await self._call(plan, again, self._on_line)
        if done.error is None:
            self._journal.unlink(missing_ok=True)
        return done

    def _interrupted(self) -> tuple[str, ...]:
        try:
            names = json.loads(self._journal.read_bytes())
        except (OSError, ValueError):
            return ()
        return tuple(str(name) for name in names) if isinstance(names, list) else ()

    async def _call(self, plan: Plan, options: Sequence[str], on_line: Callable[[str], None]) -> Attempt:
        changed: list[str] = []

        def hear(line: str) -> None:
            match = _CHANGE.match(line)
            if match:
                changed.append(canonicalize_name(match.group(1)))
            on_line(line)

        try:
            await run_command(
                self._command(plan, options), on_line=hear, cwd=plan.folder, environment=self._environment(),
                limit_s=self._limit_s,
            )  # fmt: skip
        except CommandFailed as error:
            return Attempt(error=error)
        return Attempt(changed=tuple(dict.fromkeys(changed)))

    def _command(self, plan: Plan, options: Sequence[str]) -> list[str]:
        requirements, constraints = plan.folder / "requirements.txt", plan.folder / "constraints.txt"
        requirements.write_text("".join(f"{line}\n" for line in plan.requirements), encoding="utf-8")
        constraints.write_text("".join(f"{line}\n" for line in plan.constraints), encoding="utf-8")
        command = [uv.find_uv_bin(), "pip", "install", *self._target(), "--break-system-packages", *options]
        command += ["--constraint", str(constraints)]
        for index in plan.indexes:
            command += ["--extra-index-url", index]
        if plan.indexes:
            # As pip has it, which is what those who name an index know: the best of all indexes.
            command += ["--index-strategy", "unsafe-best-match"]
        for link in plan.links:
            command += ["--find-links", link]
        return [*command, "--requirement", str(requirements)]

    def _target(self) -> list[str]:
        return ["--python", str(self._python)]

    def _environment(self) -> dict[str, str]:
        # Packages that are built run programs of their own: they get none of the worker's secrets.
        environment = child_environment(process_environment(), gpu=None)
        # On a network volume links from uv's cache are slow or fail; a user who knows better has set it.
        environment.setdefault("UV_LINK_MODE", "copy")
        return {**environment, "NO_COLOR": "1", "UV_NO_PROGRESS": "1"}


def is_network_failure(error: CommandFailed) -> bool:
    """Tell whether uv failed since it could not fetch, so that a later try may succeed."""
    return bool(_NETWORK.search("\n".join(error.tail)))
