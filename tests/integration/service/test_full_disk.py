"""The disk with the state folder is full: jobs are refused or wait for room; nothing that was taken is lost."""

import asyncio
import json
import sys
from pathlib import Path

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
        await service.submit(submission("taken"))
        fill(disk)
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
        await service.submit(submission("small"))
        told["again"] = (await service.wait("", "small", timeout_s=60)).status
        told["strays"] = [path.name for room in ("assets", "jobs") for path in (disk / "state" / room).iterdir()]
    print(json.dumps(told))

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""


async def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """What cannot be written is refused as insufficient_storage; a job that was taken ends when there is room again."""
    script = f'mount -t tmpfs -o size=2m tmpfs {tmp_path} && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", sys.executable, "-c"]
    program = await asyncio.create_subprocess_exec(
        *command, PROGRAM, tmp_path, cwd=REPOSITORY / "tests", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await program.communicate()
    assert program.returncode == 0
    assert json.loads(out.splitlines()[-1]) == {
        "small": "insufficient_storage",
        "large": "insufficient_storage",
        "upload": "insufficient_storage",
        "while full": False,
        "with room": "succeeded",
        "again": "succeeded",
        "strays": [],
    }
