"""The road of an install: look, make an environment, bring the tree, fill the environment, prove it, note it."""

from __future__ import annotations

import asyncio
import fcntl
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from comfyworker._version import __version__
from comfyworker.comfyui import install_record
from comfyworker.comfyui.gpus import has_amd_gpu, list_nvidia_gpus
from comfyworker.comfyui.home import current_tree
from comfyworker.comfyui.install_record import FolderState, InstallRecord, read_record, read_state
from comfyworker.comfyui.installing import environment, sources, tree
from comfyworker.comfyui.installing.protocol import InstallReporter
from comfyworker.comfyui.installing.request import InstallOutcome, InstallRequest
from comfyworker.comfyui.locate import Installation, read_version
from comfyworker.errors import InstallFailed

_STEPS = 6
_GB = 1_000_000_000
_NEEDED_CPU_BYTES = 3 * _GB
_NEEDED_GPU_BYTES = 12 * _GB
_LOCK_INTERVAL_S = 0.5
_INCOMING_NAME = ".comfyworker-incoming"
_ENVIRONMENT_NAME = ".venv"


async def install_comfyui(request: InstallRequest, reporter: InstallReporter) -> InstallOutcome:
    """Make a ComfyUI with an environment of its own in `request.path`, unless there is one.

    Interrupted at any point, even by SIGKILL, it leaves a note that the folder is unfinished; the next call goes on
    with what is done, or begins anew. Two calls for one folder wait for each other.

    Raises:
        InstallFailed: it could not be made; the message says in which part.
    """
    _require_free_to_use(request.path)
    request.path.mkdir(parents=True, exist_ok=True)
    async with _hold_folder(request.path, reporter):
        state = read_state(request.path)
        if state is FolderState.HOME:
            return _leave_home(request)
        if state is FolderState.FOREIGN:
            return _leave_foreign(request)
        if state is FolderState.WHOLE and not request.force:
            record = read_record(request.path)
            version = read_version(request.path)
            return InstallOutcome(path=request.path, is_new=False, record=record, version=version)
        return await _Install(request, reporter).run()


class _Install:
    """One install under way: what is asked, and what of it is done."""

    def __init__(self, request: InstallRequest, reporter: InstallReporter) -> None:
        self._request = request
        self._reporter = reporter
        self._path = request.path
        self._incoming = request.path / _INCOMING_NAME
        self._environment = request.path / _ENVIRONMENT_NAME
        self._python = self._environment / "bin" / "python"
        self._number = 0

    async def run(self) -> InstallOutcome:
        self._step("Look at what this machine has")
        record = await self._plan()
        self._note(record)
        record = await self._fill(record)
        if self._request.check:
            record = await self._prove(record)
        install_record.write_whole(self._path, record)
        return InstallOutcome(path=self._path, is_new=True, record=record, version=record.version)

    async def _plan(self) -> InstallRecord:
        """Decide what will be installed; parts that an interrupted install of the same has done count as done."""
        old = read_record(self._path)
        is_cpu = await self._choose_cpu()
        source, ref = await sources.choose_source(self._request, self._reporter)
        interpreter = await environment.choose_interpreter(self._request.python)
        wanted = InstallRecord(
            source=source, ref=ref, is_cpu=is_cpu, interpreter=str(interpreter), entries=old.entries if old else (),
            worker=__version__,
        )  # fmt: skip
        can_resume = read_state(self._path) is FolderState.UNFINISHED and not self._request.force
        if old and can_resume and old.is_same_request(wanted):
            wanted = wanted.model_copy(update={"done": old.done, "version": old.version})
            if old.done:
                self._reporter.note(f"An interrupted install goes on; done already: {', '.join(old.done)}.")
        if "packages" not in wanted.done:
            _require_space(self._path, _NEEDED_CPU_BYTES if is_cpu else _NEEDED_GPU_BYTES)
        return wanted

    async def _fill(self, record: InstallRecord) -> InstallRecord:
        self._step("Make ComfyUI's own Python environment")
        if "packages" not in record.done:
            await environment.make_environment(Path(record.interpreter), self._environment, self._reporter)
        self._step(f"Bring ComfyUI ({_describe(record)})")
        if "tree" not in record.done:
            record = await self._bring_tree(record)
        tree.make_data_folders(self._path)
        kind = "for CPU" if record.is_cpu else "for this machine's GPU"
        self._step(f"Install torch ({kind})")
        if "packages" not in record.done:
            await environment.install_torch(self._python, is_cpu=record.is_cpu, reporter=self._reporter)
        self._step("Install ComfyUI's requirements")
        if "packages" not in record.done:
            await environment.install_requirements(
                self._python, self._path, version=record.version, is_cpu=record.is_cpu, reporter=self._reporter
            )
            record = self._note(record.model_copy(update={"done": (*record.done, "packages")}))
            self._warn_of_custom_nodes()
        return record

    async def _bring_tree(self, record: InstallRecord) -> InstallRecord:
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir()
        await sources.bring_tree(record.source, record.ref, self._incoming, self._python, self._reporter)
        # The old names stay noted until the new tree is in place: interrupted, both are taken away the next time.
        names = {entry.name for entry in self._incoming.iterdir()} - set(install_record.DATA_FOLDERS)
        record = self._note(record.model_copy(update={"entries": tuple(sorted({*record.entries, *names}))}))
        entries = tree.place_tree(self._incoming, self._path, old_entries=record.entries)
        shutil.rmtree(self._incoming, ignore_errors=True)
        changes = {"done": (*record.done, "tree"), "entries": entries, "version": read_version(self._path)}
        return self._note(record.model_copy(update=changes))

    async def _prove(self, record: InstallRecord) -> InstallRecord:
        self._step("Start ComfyUI once")
        installation = Installation(path=self._path, python=self._python, version=record.version, base_dir=self._path)
        try:
            torch = await environment.read_torch_version(self._python)
            await environment.boot_once(installation, is_cpu=record.is_cpu, reporter=self._reporter)
        except InstallFailed:
            # What cannot be proven is made anew the next time.
            self._note(record.model_copy(update={"done": ()}))
            raise
        return record.model_copy(update={"torch": torch})

    async def _choose_cpu(self) -> bool:
        if self._request.cpu is not None:
            return self._request.cpu
        if await list_nvidia_gpus() or has_amd_gpu():
            return False
        self._reporter.note("No NVIDIA or AMD GPU was found: torch is installed for CPU (--no-cpu decides otherwise).")
        return True

    def _warn_of_custom_nodes(self) -> None:
        nodes = [entry.name for entry in (self._path / "custom_nodes").iterdir() if entry.is_dir()]
        nodes = sorted(name for name in nodes if not name.startswith((".", "__")))
        if nodes:
            self._reporter.note(f"Custom nodes may need their requirements installed again: {', '.join(nodes)}.")

    def _note(self, record: InstallRecord) -> InstallRecord:
        install_record.write_unfinished(self._path, record)
        return record

    def _step(self, title: str) -> None:
        self._number += 1
        self._reporter.step(self._number, _STEPS if self._request.check else _STEPS - 1, title)


@asynccontextmanager
async def _hold_folder(path: Path, reporter: InstallReporter) -> AsyncIterator[None]:
    """Keep other installs out of the folder; the system lets go of it when this process ends, however it ends."""
    with (path / install_record.LOCK_NAME).open("wb") as file:
        is_told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not is_told:
                    reporter.note("Another install into this folder is under way; waiting for it.")
                is_told = True
            # A poll, since a blocking flock in a thread could not be ended with Ctrl-C.
            await asyncio.sleep(_LOCK_INTERVAL_S)
        yield


def _require_free_to_use(path: Path) -> None:
    if read_state(path) is FolderState.OTHER:
        raise InstallFailed(
            "--path names something that is no ComfyUI, and not an empty folder either",
            hint="Choose a --path that does not exist yet.",
        )


def _leave_home(request: InstallRequest) -> InstallOutcome:
    if request.force:
        raise InstallFailed(
            "the ComfyUI in --path has been placed or updated by version, and is not made anew in its place",
            hint="`comfyworker comfyui update --to` brings another version, `comfyworker comfyui rollback` the last.",
        )
    tree = current_tree(request.path)
    return InstallOutcome(path=request.path, is_new=False, record=read_record(tree), version=read_version(tree))


def _leave_foreign(request: InstallRequest) -> InstallOutcome:
    if request.force:
        raise InstallFailed(
            "the ComfyUI in --path was not made by this command and is not touched",
            hint="Choose another --path, or use that ComfyUI as it is: set COMFYUI_PATH to its folder.",
        )
    return InstallOutcome(path=request.path, is_new=False, record=None, version=read_version(request.path))


def _require_space(path: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(path).free
    if free_bytes < needed_bytes:
        raise InstallFailed(
            f"{free_bytes / _GB:.1f} GB are free on the disk of --path, about {needed_bytes / _GB:.0f} GB are needed",
            hint="Free some space, or choose a --path on another disk.",
        )


def _describe(record: InstallRecord) -> str:
    if record.source == "git":
        return f"{record.ref} from its repository"
    return f"{record.ref} from the package" if record.source == "package" else "copied from a folder"
