"""How a worker's start is told, on a real ComfyUI."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from comfyworker.errors import WorkerError
from comfyworker.hosts.startup import COMFYUI, FIRST_JOB, PROCESS, Startup
from comfyworker.hosts.worker import Worker, open_worker
from comfyworker.jobs import ColdStart, JobRequest, JobResult
from comfyworker.settings import load_settings
from support import workflows
from support.eventually import eventually
from support.pipelines import code, request
from support.ports import free_port
from support.proxy import ALWAYS, FaultProxy
from support.real_comfyui import Install, RealComfyUI


@contextlib.asynccontextmanager
async def worker_on(url: str, state: Path, startup: Startup | None, **variables: str) -> AsyncIterator[Worker]:
    """Run a worker on a ComfyUI that is somewhere else."""
    environ = {"COMFY_API_URL": url, "STATE_DIR": str(state), "ALLOW_PRIVATE_URLS": "true", **variables}
    async with open_worker(load_settings(environ), startup=startup) as worker:
        yield worker


def job() -> JobRequest:
    """Return a job that takes no time to speak of."""
    return request(workflows.colour((1, 2, 3)))


def phases(start: ColdStart | None) -> dict[str, tuple[float, float]]:
    """Return when each phase began and ended."""
    assert start is not None
    return {phase.name: (phase.begun_s, phase.ended_s) for phase in start.phases}


async def succeeded(worker: Worker) -> JobResult | None:
    """Return the result of a job if it went well."""
    result = await worker.run(job())
    return result if result.error is None else None


async def test_the_first_result_tells_the_start_and_no_second_one(
    comfyui_base: Path, comfyui_install: Install, tmp_path: Path
) -> None:
    """A job that waits for ComfyUI overlaps with its start, and ComfyUI's start is timed whole."""
    environ = {
        "COMFYUI_PATH": str(comfyui_install.path),
        "COMFYUI_PYTHON": str(comfyui_install.python),
        "COMFYUI_BASE_DIR": str(comfyui_base),
        "COMFYUI_PORT": str(free_port()),
        "COMFYUI_ARGS": "--cpu --disable-api-nodes",
        "STATE_DIR": str(tmp_path),
    }
    startup = Startup(begun_at=time.time() - 1)
    with capture_logs() as logs:
        async with open_worker(load_settings(environ), startup=startup) as worker:
            assert not startup.is_ready  # nobody has waited
            first, second = await worker.run(job()), await worker.run(job())
    assert first.cold_start is not None
    found = phases(first.cold_start)
    assert list(found) == [PROCESS, COMFYUI, FIRST_JOB]
    assert found[FIRST_JOB][0] < found[COMFYUI][1] == first.cold_start.total_s < found[FIRST_JOB][1]
    assert found[COMFYUI][0] >= found[PROCESS][1] >= 1
    assert (code(second), second.cold_start) == ("succeeded", None)
    assert [entry["event"] for entry in logs if entry["event"].startswith("startup.")] == [
        "startup.ready",
        "startup.answered",
    ]


async def test_a_job_that_is_refused_before_the_worker_is_ready_takes_nothing(
    comfyui: RealComfyUI, tmp_path: Path
) -> None:
    """The start is told by the first answer after it."""
    startup = Startup()
    startup.expect("server")
    async with worker_on(comfyui.url, tmp_path, startup) as worker:
        early = await worker.run(job())
        with startup.phase("server"):
            pass
        late = await worker.run(request(workflows.failing("ValueError", "raised by a test")))
    assert early.cold_start is None
    assert code(late) == "node_execution_error"
    assert list(phases(late.cold_start)) == [PROCESS, COMFYUI, "server", FIRST_JOB]


async def test_one_of_two_jobs_at_once_tells(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Whichever ends first."""
    async with worker_on(comfyui.url, tmp_path, Startup()) as worker, asyncio.TaskGroup() as group:
        running = [group.create_task(worker.run(job()), name=f"job {index}") for index in range(4)]
        results = [await task for task in running]
    assert [result.cold_start is not None for result in results].count(True) == 1


async def test_a_worker_that_nobody_watches_tells_nothing(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """`comfyworker run` is no worker that starts."""
    async with worker_on(comfyui.url, tmp_path, None) as worker:
        result = await worker.run(job())
    assert (code(result), result.cold_start) == ("succeeded", None)


async def test_it_is_ready_without_any_job(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """ComfyUI's first answer is what counts."""
    startup = Startup()
    async with worker_on(comfyui.url, tmp_path, startup):
        await eventually(lambda: startup.is_ready, within_s=30)


async def test_a_comfyui_that_comes_after_it_was_given_up(proxy: FaultProxy, tmp_path: Path) -> None:
    """Its start is told by the first job that it takes."""
    fault = proxy.drop_request("*", "*", times=ALWAYS)
    async with worker_on(proxy.url, tmp_path, Startup(), COMFY_API_AVAILABLE_TIMEOUT_S="0.1") as worker:
        refused = await worker.run(job())
        assert (code(refused), refused.cold_start) == ("comfyui_unreachable", None)
        fault.stop()
        result = await eventually(lambda: succeeded(worker), within_s=60)
    assert result is not None
    assert list(phases(result.cold_start)) == [PROCESS, COMFYUI, FIRST_JOB]


async def test_an_error_within_is_no_group(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """What the host raises comes out as it is."""
    with pytest.raises(WorkerError, match="as it is"):
        async with worker_on(comfyui.url, tmp_path, Startup()):
            raise WorkerError("as it is")
