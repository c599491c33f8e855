"""What is there for the worker to run on, and what to do about each thing that is wrong."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import aiohttp
from yarl import URL

from comfyworker.comfyui import gpus
from comfyworker.comfyui.finding import Finding, Level
from comfyworker.comfyui.home import current_tree
from comfyworker.comfyui.install_record import FolderState, read_state
from comfyworker.comfyui.locate import KNOWN_PLACES, Location, find_python, locate_comfyui, read_version
from comfyworker.comfyui.machine_findings import disk_findings, gpu_finding
from comfyworker.comfyui.model_findings import model_findings
from comfyworker.comfyui.torch_probe import TorchFacts, probe_torch
from comfyworker.comfyui.volume_findings import survey_places, volume_findings
from comfyworker.errors import ComfyUINotFound, WorkerError
from comfyworker.settings import ComfyUISettings, VolumeSettings

_STATS_LIMIT_S = 15.0
_INSTALL_ADVICE = "Make one with `comfyworker comfyui install`, or name one with COMFYUI_PATH or COMFY_API_URL."


async def diagnose(
    settings: ComfyUISettings, volume: VolumeSettings | None = None, *, cwd: Path
) -> tuple[Finding, ...]:
    """Look at ComfyUI, its Python and torch, the GPU, the disk, the model folders and the volumes with models.

    Changes nothing and starts no ComfyUI. Never fails: what cannot be looked at is a finding too.
    """
    base_dir = (cwd / settings.base_dir.expanduser()).absolute() if settings.base_dir else None
    if settings.api_urls:
        findings = await _diagnose_urls(settings)
        findings.append(gpu_finding(await gpus.list_nvidia_gpus(), None, is_needed=False))
        return (*findings, *await asyncio.to_thread(disk_findings, base_dir, cwd))
    try:
        location = locate_comfyui(settings, cwd=cwd)
    except ComfyUINotFound as error:
        location, findings = Location(origin="none"), [_problem_of("comfyui", error)]
    else:
        findings = await asyncio.to_thread(_folder_findings, location, cwd)
    base_dir = base_dir or location.path
    own_models = base_dir / "models" if base_dir else None
    surveys = await asyncio.to_thread(survey_places, volume or VolumeSettings(), cwd=cwd, own_models=own_models)
    elsewhere = sum(survey.files for survey in surveys)
    findings += await _diagnose_folder(location.path, base_dir, settings, cwd, files_elsewhere=elsewhere)
    return (*findings, *(finding for survey in surveys for finding in volume_findings(survey)))


async def _diagnose_folder(
    path: Path | None, base_dir: Path | None, settings: ComfyUISettings, cwd: Path, *, files_elsewhere: int
) -> list[Finding]:
    """Say what there is to run the ComfyUI in `path` with; None is a ComfyUI that was not found."""
    found_gpus = await gpus.list_nvidia_gpus()
    if path is None or base_dir is None:
        return [gpu_finding(found_gpus, None), *await asyncio.to_thread(disk_findings, base_dir, cwd)]
    findings: list[Finding] = []
    python, facts = await _find_torch(path, settings, cwd, findings)
    findings.append(gpu_finding(found_gpus, facts))
    findings += await asyncio.to_thread(disk_findings, base_dir, cwd)
    return [*findings, *await model_findings(path, base_dir, python, files_elsewhere=files_elsewhere)]


async def _diagnose_urls(settings: ComfyUISettings) -> list[Finding]:
    findings = []
    if settings.path is not None:
        findings.append(
            Finding(
                area="comfyui",
                level=Level.WARNING,
                text="COMFYUI_PATH is set too, but COMFY_API_URL comes first: no ComfyUI is started.",
                advice="Unset the one that is not meant.",
            )
        )
    timeout = aiohttp.ClientTimeout(total=_STATS_LIMIT_S, sock_connect=settings.connect_timeout_s)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return [*findings, *[await _ask_url(session, url) for url in settings.api_urls]]


async def _ask_url(session: aiohttp.ClientSession, url: str) -> Finding:
    shown = str(URL(url).with_user(None).with_query(None))
    try:
        async with session.get(f"{url}/system_stats") as answer:
            answer.raise_for_status()
            stats = await answer.json(content_type=None)
        system = dict(stats["system"])
    except (aiohttp.ClientError, TimeoutError, ValueError, TypeError, KeyError) as error:
        reason = f"HTTP {error.status}" if isinstance(error, aiohttp.ClientResponseError) else _reason(error)
        return Finding(
            area="comfyui",
            level=Level.PROBLEM,
            text=f"{shown} (COMFY_API_URL) does not answer as a ComfyUI: {reason}.",
            advice="Start it, or correct COMFY_API_URL; a container reaches another one by its name, not by localhost.",
            facts={"origin": "COMFY_API_URL", "url": shown},
        )
    version = str(system.get("comfyui_version") or "of unknown version")
    return Finding(
        area="comfyui",
        level=Level.OK,
        text=f"ComfyUI {version} answers at {shown} (COMFY_API_URL), with torch {system.get('pytorch_version', '?')}.",
        facts={"origin": "COMFY_API_URL", "url": shown, "version": version, "system": system},
    )


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        # Names that do not resolve have negative numbers, which only their own text explains.
        number = error.os_error.errno or 0
        return os.strerror(number) if number > 0 else str(error.os_error.strerror)
    return "the answer is no system_stats" if isinstance(error, (ValueError, TypeError, KeyError)) else str(error)


def _folder_findings(location: Location, cwd: Path) -> list[Finding]:
    findings = [
        Finding(
            area="comfyui",
            level=Level.PROBLEM if location.path is None else Level.WARNING,
            text=f"The install in {place} was not finished; it is not used.",
            advice=f"Run `comfyworker comfyui install --path {place}` again; it goes on where it stopped.",
            facts={"path": str(place)},
        )
        for place in KNOWN_PLACES
        if location.origin != "COMFYUI_PATH" and _state(cwd / place) is FolderState.UNFINISHED
    ]
    if location.path is not None:
        version = read_version(current_tree(location.path))
        found = Finding(
            area="comfyui",
            level=Level.OK,
            text=f"ComfyUI {version or 'of unknown version'} in {location.path} ({location.origin}).",
            facts={"origin": location.origin, "path": str(location.path), "version": version},
        )
        findings.insert(0, found)
    elif not findings:
        places = ", ".join(map(str, KNOWN_PLACES))
        text = f"There is no ComfyUI: no setting names one, and none is in {places}."
        findings.append(Finding(area="comfyui", level=Level.PROBLEM, text=text, advice=_INSTALL_ADVICE))
    return findings


def _state(path: Path) -> FolderState | None:
    try:
        return read_state(path)
    except OSError:
        return None


async def _find_torch(
    path: Path, settings: ComfyUISettings, cwd: Path, findings: list[Finding]
) -> tuple[Path | None, TorchFacts | None]:
    """Return ComfyUI's interpreter and what its torch is, and add what is to be said about them."""
    try:
        python = await asyncio.to_thread(find_python, path, settings, cwd=cwd)
    except ComfyUINotFound as error:
        findings.append(_problem_of("python", error))
        return None, None
    if python is None:
        text = "No Python with torch was found in ComfyUI's folder or beside it."
        advice = "Name the interpreter with COMFYUI_PYTHON, or make a new ComfyUI with `comfyworker comfyui install`."
        findings.append(Finding(area="python", level=Level.PROBLEM, text=text, advice=advice))
        return None, None
    facts = await probe_torch(python)
    findings += _python_findings(python, facts)
    return python, facts


def _python_findings(python: Path, facts: TorchFacts | None) -> list[Finding]:
    if facts is None:
        advice = "Correct COMFYUI_PYTHON, or make the environment anew with `comfyworker comfyui install --force`."
        text = f"{python} cannot be run as a Python."
        return [Finding(area="python", level=Level.PROBLEM, text=text, advice=advice, facts={"path": str(python)})]
    findings = [
        Finding(
            area="python",
            level=Level.OK,
            text=f"Python {facts.python} at {python}.",
            facts={"path": str(python), "version": facts.python},
        )
    ]
    if facts.torch is None:
        text = f"torch cannot be imported there: {facts.error}."
        advice = "Install ComfyUI's requirements in that environment, or name another with COMFYUI_PYTHON."
        return [*findings, Finding(area="torch", level=Level.PROBLEM, text=text, advice=advice)]
    built = f"for CUDA {facts.cuda}" if facts.cuda else f"for ROCm {facts.hip}" if facts.hip else "without CUDA"
    text = f"torch {facts.torch}, built {built}."
    return [*findings, Finding(area="torch", level=Level.OK, text=text, facts=facts.model_dump(mode="json"))]


def _problem_of(area: str, error: WorkerError) -> Finding:
    text = f"{error.message[:1].upper()}{error.message[1:]}."
    return Finding(area=area, level=Level.PROBLEM, text=text, advice=error.hint)
