"""A job service in a process of its own, which a test may kill: it tells what it does, line by line.

Run as a program: `python -m support.job_server FOLDER PLACES`. It reads commands on stdin (`submit ID`, `cancel ID`,
`stop`) and writes facts on stdout: `ready`, `taken ID`, `begun ID`, `made ID`, `refused ID CODE`, and
`collided ID` where a job that begins runs already.
"""

import asyncio
import fcntl
import random
import sys
from collections.abc import Callable
from pathlib import Path

from comfyworker.errors import WorkerError
from comfyworker.jobs import Artifact, JobRequest, JobResult, JobStatus, Progress
from comfyworker.service import JobService, kept_delivery
from comfyworker.settings import QueueSettings
from support.artifacts import file_artifact
from support.service import submission


def say(*words: str) -> None:
    """Tell a fact; it is on its way when this returns."""
    print(*words, flush=True)


class Runner:
    """Makes one file for each job, in a moment; a lock meanwhile shows if it runs twice at a time."""

    def __init__(self, folder: Path) -> None:
        """Make files in `folder`."""
        self._folder = folder

    async def __call__(
        self,
        request: JobRequest,
        *,
        created_at: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_artifact: Callable[[Artifact], None] | None = None,
        on_preview: object = None,
        stand_aside: object = None,
    ) -> JobResult:
        """Run one job; one whose id begins with `stuck` never ends."""
        del on_preview, stand_aside
        with (self._folder / f"{request.id}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("collided", request.id)
            say("begun", request.id)
            return await self._make(request, created_at, on_progress, on_artifact)

    async def _make(
        self,
        request: JobRequest,
        created_at: float | None,
        on_progress: Callable[[Progress], None] | None,
        on_artifact: Callable[[Artifact], None] | None,
    ) -> JobResult:
        if request.id.startswith("stuck"):
            await asyncio.Event().wait()
        for step in range(3):
            # As long as a node takes, and not a time that anything waits for.
            await asyncio.sleep(random.random() * 0.004)
            if on_progress is not None:
                on_progress(Progress(value=step / 3))
        path = self._folder / request.id
        path.write_text(f"made for {request.id}")
        artifacts = await kept_delivery(request).deliver([file_artifact(path, name="picture.png")])
        path.unlink()
        for kept in artifacts:
            if on_artifact is not None:
                on_artifact(kept)
        say("made", request.id)
        return JobResult(id=request.id, status=JobStatus.SUCCEEDED, artifacts=artifacts, created_at=created_at)


async def obey(service: JobService, command: str, job_id: str) -> None:
    """Do what one line asks for."""
    try:
        if command == "submit":
            changes = {"comfy_org_api_key": "sk-secret"} if "secret" in job_id else {}
            record = await service.submit(submission(job_id, **changes))
            say("taken" if not record.is_repeat else "known", job_id)
        elif command == "cancel":
            await service.cancel("", job_id)
            say("canceled", job_id)
    except WorkerError as error:
        say("refused", job_id, error.code)


async def main(folder: Path, places: int) -> None:
    """Serve until stdin ends or says so."""
    made = folder / "made"
    made.mkdir(parents=True, exist_ok=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    settings = QueueSettings(max_queued=10_000)
    async with JobService(Runner(made), settings, folder=folder / "state", places=places) as service:
        say("ready")
        async with asyncio.TaskGroup() as group:
            while line := (await lines.readline()).decode().strip():
                if line == "stop":
                    break
                command, _, job_id = line.partition(" ")
                group.create_task(obey(service, command, job_id), name=line)


def run() -> None:
    """Serve as the command line says."""
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))


if __name__ == "__main__":
    run()
