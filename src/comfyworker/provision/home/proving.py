"""Whether a version of ComfyUI can take the place of another: it is started beside it, on CPU, and has to answer."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.launching import child_environment
from comfyworker.comfyui.locate import LAUNCHER, Installation
from comfyworker.comfyui.process import ComfyUIProcess
from comfyworker.comfyui.slots import reserve_port
from comfyworker.deferred import aiohttp, load_aiohttp
from comfyworker.errors import InstallFailed
from comfyworker.provision.nodes.importing import WATCH
from comfyworker.settings import process_environment

_LIMIT_S = 900.0
_GRACE_S = 0.5  # nothing that it writes is kept
_LOOK_S = 0.1
_ASK_LIMIT_S = 5.0
_FIRST_PORT = 18188


class Proof(BaseModel):
    """What was seen of a ComfyUI that came up."""

    model_config = ConfigDict(frozen=True)

    version: str | None
    """As it says itself."""
    failed_nodes: tuple[str, ...]
    """Custom nodes that did not load, by folder."""
    loaded_nodes: tuple[str, ...]


async def prove(installation: Installation, *, on_line: Callable[[str], None]) -> Proof:
    """Start a ComfyUI on CPU with its custom nodes until it answers `/system_stats`; return what it says, and end it.

    It has folders of its own for all that it writes, so one that serves jobs beside it is not disturbed. The network is
    not asked for models.

    Raises:
        InstallFailed: it does not come up; the last lines of its log are in the details.
    """
    with (
        tempfile.TemporaryDirectory(prefix="comfyworker-proof-") as folder,
        reserve_port(_FIRST_PORT) as port,
    ):
        scratch = Path(folder)
        for name in ("user", "output"):
            (scratch / name).mkdir()
        report = scratch / "report"
        report.touch()
        process = ComfyUIProcess(
            _command(installation, report, scratch, port),
            name=f"ComfyUI {installation.version or ''}".strip(),
            environment={**child_environment(process_environment(), gpu=None), "HF_HUB_OFFLINE": "1"},
            cwd=scratch,
            grace_s=_GRACE_S,
        )
        async with process:
            stats = await _wait_answer(process, f"http://127.0.0.1:{port}/system_stats", installation, on_line)
        loaded = await asyncio.to_thread(_read_report, report)
    system = stats.get("system")
    version = system.get("comfyui_version") if isinstance(system, dict) else None
    return Proof(
        version=str(version) if version else None,
        failed_nodes=tuple(sorted(name for name, is_good in loaded.items() if not is_good)),
        loaded_nodes=tuple(sorted(name for name, is_good in loaded.items() if is_good)),
    )


def _command(installation: Installation, report: Path, scratch: Path, port: int) -> list[str]:
    args = ["--cpu", "--disable-auto-launch", "--listen", "127.0.0.1", "--port", str(port)]
    args += ["--base-directory", str(installation.base_dir), "--temp-directory", str(scratch)]
    args += ["--user-directory", str(scratch / "user"), "--output-directory", str(scratch / "output")]
    return [str(installation.python), str(WATCH), str(report), str(LAUNCHER), str(installation.path / "main.py"), *args]


async def _wait_answer(
    process: ComfyUIProcess, url: str, installation: Installation, on_line: Callable[[str], None]
) -> dict[str, object]:
    await load_aiohttp()
    timeout = aiohttp.ClientTimeout(total=_ASK_LIMIT_S, sock_connect=_ASK_LIMIT_S)
    try:
        async with asyncio.timeout(_LIMIT_S), aiohttp.ClientSession(timeout=timeout) as session:
            while not process.has_ended:
                on_line(process.last_lines[-1] if process.last_lines else "")
                try:
                    async with session.get(url) as answer:
                        if answer.status == 200:
                            return dict(await answer.json(content_type=None))
                except (aiohttp.ClientError, TimeoutError, ValueError, TypeError):
                    pass
                await asyncio.sleep(_LOOK_S)  # nothing tells when a port is opened
    except TimeoutError as error:
        raise _unproven(process, installation, f"did not answer within {_LIMIT_S:g} s") from error
    await process.wait()
    raise _unproven(process, installation, f"ended while it started ({process.describe_end()})")


def _unproven(process: ComfyUIProcess, installation: Installation, what: str) -> InstallFailed:
    return InstallFailed(
        f"ComfyUI {installation.version or 'of unknown version'} {what}",
        hint="The output above says where it stopped. The ComfyUI that was there before is as it was.",
        details={"output": "\n".join(process.last_lines)},
    )


def _read_report(report: Path) -> dict[str, bool]:
    """Return of each custom node whether it has loaded. Wire source: _import_watch.py."""
    loaded: dict[str, bool] = {}
    for text in report.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and line.get("event") == "loaded":
            loaded[Path(str(line.get("path", ""))).name] = bool(line.get("ok"))
    return loaded
