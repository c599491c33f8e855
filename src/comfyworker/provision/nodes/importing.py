"""Whether custom nodes load: ComfyUI is started up to the point where it would serve, and watched."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from comfyworker.comfyui.launching import child_environment
from comfyworker.comfyui.locate import Installation
from comfyworker.comfyui.running import CommandFailed, ignore_line, run_command
from comfyworker.errors import NodeInstallFailed
from comfyworker.provision.nodes.known_fixes import package_of
from comfyworker.provision.nodes.records import ImportOutcome
from comfyworker.redaction import redact
from comfyworker.settings import process_environment
from comfyworker.wording import clip

WATCH = Path(__file__).with_name("_import_watch.py")
_CLIPPED = 300
_OF_COMFYUI = frozenset(
    {"comfy", "comfy_api", "comfy_api_nodes", "comfy_config", "comfy_execution", "comfy_extras", "folder_paths"}
    | {"nodes", "server", "execution", "latent_preview", "node_helpers", "app", "api_server", "utils"}
)
_FROM_MODULE = re.compile(r"cannot import name '([^']+)' from (?:partially initialized module )?'([^']+)'")
_DISTRIBUTION = re.compile(r"[Tt]he '([A-Za-z0-9][\w.-]*)[^']*' distribution was not found")
_NUMPY_ABI = re.compile(
    r"compiled using NumPy 1|numpy\.dtype size changed|_ARRAY_API not found|numpy\.core\.multiarray"
)


class _Line(BaseModel):
    """A line of the report; wire source: _import_watch.py."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    event: str
    path: str = ""
    ok: bool = True
    seconds: float = 0.0
    count: int = 0
    type: str | None = None
    is_import: bool = False
    message: str = ""
    module: str | None = None
    frames: tuple[tuple[str, int], ...] = ()


class ImportCheck:
    """Starts ComfyUI to see which custom nodes load."""

    def __init__(
        self, installation: Installation, *, limit_s: float, on_line: Callable[[str], None] = ignore_line
    ) -> None:
        """Keep which ComfyUI, how long a start may take, and who hears its log."""
        self._installation = installation
        self._limit_s = limit_s
        self._on_line = on_line
        self._custom_nodes = installation.base_dir / "custom_nodes"

    async def run(self, folders: Sequence[str]) -> dict[str, ImportOutcome]:
        """Return of each folder whether ComfyUI loads it.

        One start tells of all. Only where a custom node ends ComfyUI itself is there another one for the others.

        Raises:
            NodeInstallFailed: ComfyUI does not start, and no custom node is the cause.
        """
        outcomes: dict[str, ImportOutcome] = {}
        left_out: list[str] = []
        while True:
            lines, error = await self._start(left_out)
            for line in lines:
                if line.event == "loaded":
                    outcomes[Path(line.path).name] = _judge(line)
            if error is None:
                break
            culprit = _culprit(lines)
            if culprit is None or culprit in left_out:
                raise NodeInstallFailed(
                    f"ComfyUI does not start: {error}", hint="The output in the details says where it stopped.",
                    details={"output": redact("\n".join(error.tail))},
                ) from error  # fmt: skip
            outcomes[culprit] = ImportOutcome(error=_ended(culprit, error), ends_comfyui=True)
            left_out.append(culprit)
        return {folder: outcomes.get(folder) or ImportOutcome(error=_unseen(folder)) for folder in folders}

    async def _start(self, left_out: Sequence[str]) -> tuple[list[_Line], CommandFailed | None]:
        with tempfile.TemporaryDirectory(prefix="comfyworker-import-check-") as scratch:
            report = Path(scratch) / "report"
            report.touch()
            error = None
            try:
                await run_command(
                    self._command(report, Path(scratch), left_out), on_line=self._on_line,
                    cwd=self._installation.path, limit_s=self._limit_s,
                    environment=child_environment(process_environment(), gpu=None),
                )  # fmt: skip
            except CommandFailed as failed:
                error = failed
            lines = [line for text in report.read_text(encoding="utf-8").splitlines() if (line := _read(text))]
            # A start that went through says so last; an exit in a custom node's own code, whatever its code, is none.
            is_through = bool(lines) and lines[-1].event == "ended" and _culprit(lines) is None
            if error is None and not is_through:
                error = CommandFailed("ComfyUI", "ended before it was up", ())
            return lines, None if is_through else error

    def _command(self, report: Path, scratch: Path, left_out: Sequence[str]) -> list[str]:
        # On CPU, with folders of its own: beside a ComfyUI that serves it takes no GPU memory, and ComfyUI's start
        # empties its temp folder.
        args = ["--quick-test-for-ci", "--cpu", "--disable-auto-launch", "--temp-directory", str(scratch)]
        args += ["--user-directory", str(scratch / "user")]
        (scratch / "user").mkdir(exist_ok=True)
        if self._installation.base_dir != self._installation.path:
            args += ["--base-directory", str(self._installation.base_dir)]
        if left_out:
            names = [entry.name for entry in self._custom_nodes.iterdir() if entry.name not in left_out]
            args += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", *sorted(names)]
        interpreter, *launch = self._installation.command(args)
        return [interpreter, str(WATCH), str(report), *launch]


def _read(text: str) -> _Line | None:
    try:
        return _Line.model_validate(json.loads(text))
    except (ValueError, ValidationError):
        return None  # the last line of a process that was killed


def _culprit(lines: Sequence[_Line]) -> str | None:
    """Return the custom node that was being loaded when the report stops."""
    current = None
    for line in lines:
        if line.event == "loading":
            current = Path(line.path).name
        elif line.event == "loaded":
            current = None
    return current


def _judge(line: _Line) -> ImportOutcome:
    error = None if line.ok else _explain(Path(line.path), line)
    return ImportOutcome(node_count=line.count, seconds=line.seconds, error=error)


def _explain(path: Path, line: _Line) -> NodeInstallFailed:
    folder = path.name
    if line.type is None:
        return NodeInstallFailed(
            f"{folder}: it brings no nodes: it has neither NODE_CLASS_MAPPINGS nor comfy_entrypoint",
            hint="Is that the repository of a custom node?",
        )
    message = clip(redact(line.message), _CLIPPED)
    where = next(
        (f" ({name.removeprefix(f'{path}/')} line {number})" for name, number in reversed(line.frames)
         if name.startswith(f"{path}/")), ""
    )  # fmt: skip
    hint, package = _advise(folder, line)
    details = {"exception": line.type} | ({"package": package} if package else {})
    return NodeInstallFailed(f"{folder}: it does not load: {line.type}: {message}{where}", hint=hint, details=details)


def _advise(folder: str, line: _Line) -> tuple[str, str | None]:
    """Return what to do, and the package that it is about."""
    if _NUMPY_ABI.search(line.message):
        return "One of its packages was built for another numpy. Add to config.yml: `pip: ['numpy<2']`.", "numpy"
    distribution = _DISTRIBUTION.search(line.message)
    module = distribution.group(1) if distribution else line.module
    if line.type == "PackageNotFoundError":
        module = line.message.rpartition(" ")[2].strip("'\"") or module
    if not module:
        return "Another version of it may load; the message is its own.", None
    top = module.partition(".")[0]
    if top in _OF_COMFYUI:
        return "It is made for another version of ComfyUI: take an older or newer version of one of them.", None
    if top == folder or "/" in module:
        return "Its own files are not complete: apply again, or take another version of it.", None
    package = package_of(module)
    if _FROM_MODULE.search(line.message) or line.type not in {"ModuleNotFoundError", "PackageNotFoundError"}:
        advice = f"It needs another version of the package {package}. Add the right one to config.yml, as "
        return advice + f"`pip: ['{package}==…']`.", package
    return f"It needs a package that its requirements do not name. Add to config.yml: `pip: ['{package}']`.", package


def _ended(folder: str, error: CommandFailed) -> NodeInstallFailed:
    return NodeInstallFailed(
        f"{folder}: ComfyUI ended, or did not go on, while loading it: {error}",
        hint="Take another version of it, or take it out of config.yml: with it ComfyUI does not start.",
        details={"output": redact("\n".join(error.tail))},
    )


def _unseen(folder: str) -> NodeInstallFailed:
    return NodeInstallFailed(
        f"{folder}: ComfyUI did not try to load it",
        hint="Do COMFYUI_ARGS or another setting disable custom nodes?",
    )
