"""A pipeline on a ComfyUI, with everything that the pipeline itself starts."""

import asyncio
import base64
import contextlib
import io
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from PIL import Image

from comfyworker.hosts.worker import open_pipeline
from comfyworker.jobs import Artifact, Graph, InputFile, JobRequest, JobResult, Progress
from comfyworker.pipeline import Pipeline
from comfyworker.settings import load_settings
from support.real_comfyui import RealComfyUI


@contextlib.asynccontextmanager
async def pipeline_on(
    comfyui: RealComfyUI,
    url: str | None = None,
    *,
    shares_disk: bool = True,
    environ: Mapping[str, str] | None = None,
    **variables: str,
) -> AsyncIterator[Pipeline]:
    """Run a pipeline on a ComfyUI that runs already, at `url` or its own; `environ` and `variables` are settings."""
    given = {
        "COMFY_API_URL": url or comfyui.url,
        "WEBSOCKET_RECONNECT_DELAY_S": "0.05",
        "STATE_DIR": str(comfyui.base_dir / "state"),
        **(environ or {}),
        **variables,
    }
    if shares_disk:
        given["COMFYUI_BASE_DIR"] = str(comfyui.base_dir)
    async with open_pipeline(load_settings(given)) as pipeline:
        yield pipeline


@contextlib.asynccontextmanager
async def pipeline_of_own(base_dir: Path, path: Path, port: int, **variables: str) -> AsyncIterator[Pipeline]:
    """Run a pipeline that starts a ComfyUI of its own on `base_dir`; the test may harm it."""
    environ = {
        "COMFYUI_PATH": str(path),
        "COMFYUI_BASE_DIR": str(base_dir),
        "COMFYUI_PORT": str(port),
        "COMFYUI_ARGS": "--cpu --disable-api-nodes",
        "COMFYUI_INSTANCES": "1",
        "SHUTDOWN_GRACE_S": "5",
        "STATE_DIR": str(base_dir / "state"),
        **variables,
    }
    async with open_pipeline(load_settings(environ)) as pipeline:
        yield pipeline


def request(graph: Graph, *, files: Mapping[str, bytes] | None = None, timeout_s: float | None = 60.0) -> JobRequest:
    """Return a request for `graph`, with input files by name."""
    encoded = tuple(
        InputFile(name=name, data=base64.b64encode(content).decode()) for name, content in (files or {}).items()
    )
    return JobRequest(id=uuid.uuid4().hex, workflow=graph, files=encoded, timeout_s=timeout_s)


@dataclass
class Watch:
    """Keeps a job's progress, and tells when something has come."""

    snapshots: list[Progress] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, progress: Progress) -> None:
        """Take one snapshot."""
        self.snapshots.append(progress)
        self._changed.set()

    async def until_class(self, class_type: str) -> None:
        """Wait until a node of this class runs."""
        await self._until(lambda progress: progress.current_node_class == class_type)

    async def until_message(self, message: str) -> None:
        """Wait until the job says this of itself."""
        await self._until(lambda progress: progress.message == message)

    async def _until(self, check: Callable[[Progress], bool]) -> None:
        async with asyncio.timeout(180):
            while not any(check(progress) for progress in self.snapshots):
                self._changed.clear()
                await self._changed.wait()


def code(result: JobResult) -> str:
    """Return the code with which a job failed, or its status."""
    return result.error.code if result.error is not None else str(result.status)


def picture(artifact: Artifact) -> Image.Image:
    """Return the picture that an inline artifact holds."""
    assert artifact.data is not None
    return Image.open(io.BytesIO(base64.b64decode(artifact.data)))


def colour_of(artifact: Artifact) -> tuple[int, int, int]:
    """Return the colour of a picture's first pixel."""
    pixel = picture(artifact).convert("RGB").getpixel((0, 0))
    assert isinstance(pixel, tuple)
    red, green, blue = (int(part) for part in pixel)
    return red, green, blue


def png(rgb: tuple[int, int, int], size: int = 16) -> bytes:
    """Return a picture of one colour."""
    out = io.BytesIO()
    Image.new("RGB", (size, size), rgb).save(out, "PNG")
    return out.getvalue()


async def queue_of(url: str) -> tuple[list[str], list[str]]:
    """Return the ids that a ComfyUI runs, and those that wait there."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/queue") as answer:
        body = await answer.json()
    return [item[1] for item in body["queue_running"]], [item[1] for item in body["queue_pending"]]


def files_in(folder: Path) -> list[str]:
    """Return the names of all files below a folder, hidden ones left out."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")
    )
