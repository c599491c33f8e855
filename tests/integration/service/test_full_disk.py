"""The disk with the state folder is full: jobs are refused or wait for room; nothing that was taken is lost."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from support.source import REPOSITORY

PROGRAM = """
import asyncio, json, pathlib, sys
from comfyworker.errors import WorkerError
from comfyworker.jobs import JobResult, JobStatus
from comfyworker.service import JobService
from comfyworker.settings import QueueSettings
from support.service import submission

gate = asyncio.Event()

async def runner(request, **_):
    await gate.wait()
    return JobResult(id=request.id, status=JobStatus.SUCCEEDED, warnings=("x" * 40_000,))

def fill(disk):
    size = 1 << 20
    with open(disk / "filler", "ab", buffering=0) as file:
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2

async def chunks():
    yield b"x" * 300_000

async def main(disk):
    told = {}
    async with JobService(runner, QueueSettings(), folder=disk / "state", places=1) as service:
        for job_id in ("taken", "waits", "waits too"):
            await service.submit(submission(job_id))
        fill(disk)
        async with asyncio.timeout(10):
            told["canceled"] = (await service.cancel("", "waits")).status
            told["purged"] = await service.purge("")
        for name, call in {
            "small": lambda: service.submit(submission("small", body=b"x" * 60_000)),
            "large": lambda: service.submit(submission("large", body=b"x" * 300_000)),
            "upload": lambda: service.assets.upload(chunks(), owner="", name="a"),
        }.items():
            try:
                await call()
            except WorkerError as error:
                told[name] = error.code
        gate.set()
        waited = await service.wait("", "taken", timeout_s=1)
        told["while full"] = waited.is_terminal
        (disk / "filler").unlink()
        told["with room"] = (await service.wait("", "taken", timeout_s=60)).status
        told["canceled then"] = (await service.wait("", "waits", timeout_s=60)).status
        told["purged then"] = (await service.wait("", "waits too", timeout_s=60)).status
        await service.submit(submission("small"))
        told["again"] = (await service.wait("", "small", timeout_s=60)).status
        told["strays"] = [path.name for room in ("assets", "jobs") for path in (disk / "state" / room).iterdir()]
    print(json.dumps(told))

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""


UPLOADS = """
import asyncio, json, pathlib, sys
from comfyworker.errors import WorkerError
from comfyworker.service import JobService
from comfyworker.settings import QueueSettings

PAGE = 4096

async def chunks(size):
    yield b"x" * size

async def main(disk):
    told = []
    async with JobService(None, QueueSettings(), folder=disk / "state", places=1) as service:
        with open(disk / "filler", "ab", buffering=0) as file:
            size = 1 << 20
            while size:
                try:
                    file.write(b"x" * size)
                except OSError:
                    size //= 2
            # Room for the file, and for less and less of what is written about it.
            file.truncate(file.tell() - 100 * PAGE)
        for pages in range(101, 90, -1):
            try:
                await service.assets.upload(chunks(pages * PAGE), owner="", name="a")
            except WorkerError as error:
                left = list((disk / "state" / "assets").iterdir())
                told.append([error.code, len(left)])
                for path in left:
                    path.unlink()
            else:
                break
    print(json.dumps(told))

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""


async def run_on_small_disk(program: str, folder: Path) -> Any:
    """Run a program on a disk of its own that has 2 MiB; return what it prints last."""
    script = f'mount -t tmpfs -o size=2m tmpfs {folder} && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", sys.executable, "-c"]
    process = await asyncio.create_subprocess_exec(
        *command, program, folder, cwd=REPOSITORY / "tests", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


async def test_an_upload_without_room_for_its_record_leaves_nothing(tmp_path: Path) -> None:
    """Its bytes fit and what is written about them does not: they are not left where only a restart removes them."""
    told = await run_on_small_disk(UPLOADS, tmp_path)
    assert ["insufficient_storage", 0] in told
    assert [left for _, left in told] == [0] * len(told)


async def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """What cannot be written is refused as insufficient_storage; a job that was taken ends when there is room again.

    Who cancels one that waits hears so at once.
    """
    assert await run_on_small_disk(PROGRAM, tmp_path) == {
        "canceled": "canceling",
        "purged": 1,
        "small": "insufficient_storage",
        "large": "insufficient_storage",
        "upload": "insufficient_storage",
        "while full": False,
        "with room": "succeeded",
        "canceled then": "canceled",
        "purged then": "canceled",
        "again": "succeeded",
        "strays": [],
    }
