"""A job while it runs: what it tells, what it counts, what it answers."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from comfyworker.comfyui.execution import Execution
from comfyworker.errors import JobCanceled, OutOfMemory
from comfyworker.jobs import JobRequest, JobStatus, Progress
from comfyworker.running import RunningJob, Stage
from support.artifacts import artifact


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        """Begin at an hour that is not zero."""
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that the job reads."""
    clock = Clock()
    monkeypatch.setattr("comfyworker.running.time.perf_counter", clock)
    return clock


def job(told: list[Progress] | None = None, **more: Any) -> RunningJob:
    """Return a job that begins now."""
    graph = {"1": {"class_type": "EmptyImage", "inputs": {}}}
    return RunningJob(JobRequest(id="job", workflow=graph, **more), None if told is None else told.append)


def execution(prompt_id: str, *, wait_s: float = 0.0, execute_s: float = 0.0) -> Execution:
    """Return an execution with a warning."""
    return Execution(
        prompt_id=prompt_id,
        outputs={},
        node_timings_s={"1": 0.5},
        wait_s=wait_s,
        execute_s=execute_s,
        warnings=("node 2 stopped",),
    )


def test_each_stage_is_told_once() -> None:
    """Entering a stage says so; being in it already says nothing."""
    told: list[Progress] = []
    running = job(told)
    for stage in (Stage.WAIT, Stage.WAIT, Stage.EXECUTE):
        running.enter(stage)
    assert [progress.message for progress in told] == ["waiting for its turn", "executing"]


def test_progress_never_goes_back() -> None:
    """A second attempt does not begin at nothing again."""
    told: list[Progress] = []
    running = job(told)
    running.enter(Stage.EXECUTE)
    running.report(Progress(value=0.6, nodes_done=3, nodes_total=5))
    running.report(Progress(value=0.1, nodes_done=1, nodes_total=5, current_node="2"))
    assert told[-1] == Progress(value=0.6, nodes_done=3, nodes_total=5, current_node="2", message="executing")


def test_timings(clock: Clock) -> None:
    """Parts of a stage add up, waits add up, and the execution's own figures are taken over."""
    running = job()
    for seconds in (1.0, 2.0):
        with running.counted_as(Stage.PREPARE):
            clock.now += seconds
        with running.waiting():
            clock.now += 10.0
    running.note_execution(execution(running.prompt_id, wait_s=5.0, execute_s=8.0))
    with running.at(Stage.DELIVER):
        clock.now += 4.0
    running.artifacts = (artifact(size_bytes=7),)
    result = running.succeeded()
    assert result.timings.model_dump(exclude_none=True) == {
        "prepare_s": 3.0,
        "wait_s": 25.0,
        "execute_s": 8.0,
        "deliver_s": 4.0,
        "total_s": 27.0,
    }


def test_a_stage_that_fails_is_counted_too(clock: Clock) -> None:
    """The time of a stage counts up to its failure."""
    running = job()

    def fail() -> None:
        with running.at(Stage.COLLECT):
            clock.now += 3.0
            raise OutOfMemory("node 5 ran out of memory")

    with pytest.raises(OutOfMemory):
        fail()
    assert (running.stage, running.failed(OutOfMemory("x")).timings.collect_s) == (Stage.COLLECT, 3.0)


def test_the_result_of_a_success() -> None:
    """The result holds artifacts, warnings of request, job and execution, and the nodes' times."""
    told: list[Progress] = []
    running = job(told, warnings=("unknown key",))
    running.warn_unused({"b.png", "a.png"})
    running.warn_unused({"a.png"})
    running.note_execution(execution(running.prompt_id))
    running.artifacts = (artifact(size_bytes=7),)
    result = running.succeeded()
    assert result.warnings == (
        "unknown key",
        "the input file 'a.png' is not named by any node of the workflow",
        "the input file 'b.png' is not named by any node of the workflow",
        "node 2 stopped",
    )
    assert (result.id, result.status, result.artifacts, result.error, result.prompt_id, result.node_timings_s) == (
        "job", JobStatus.SUCCEEDED, (artifact(size_bytes=7),), None, running.prompt_id, {"1": 0.5},
    )  # fmt: skip
    assert (told[-1].value, told[-1].message) == (1.0, None)


def test_the_results_of_failures() -> None:
    """A failure keeps its code; one that somebody wanted is canceled, not failed."""
    out_of_memory = job().failed(OutOfMemory("node 5 ran out of memory"))
    canceled = job().failed(JobCanceled("somebody stopped it"))
    found = [(result.status, result.error.code) for result in (out_of_memory, canceled) if result.error]
    assert found == [(JobStatus.FAILED, "out_of_memory"), (JobStatus.CANCELED, "job_canceled")]


def test_the_last_line_of_a_success(clock: Clock) -> None:
    """One line says what a job came to, with figures."""
    running = job()
    clock.now += 1.5
    running.artifacts = (artifact(size_bytes=7),)
    with capture_logs() as events:
        running.log_end(running.succeeded())
    assert events == [
        {
            "event": "job.ended",
            "log_level": "info",
            "status": "succeeded",
            "artifacts": 1,
            "total_bytes": 7,
            "warnings": 0,
            "total_s": 1.5,
        }
    ]


def test_the_last_line_of_a_failure(clock: Clock) -> None:
    """A failed job's line has the code and the message."""
    running = job()
    clock.now += 2.0
    with capture_logs() as events:
        running.log_end(running.failed(OutOfMemory("node 5 ran out of memory")))
    assert events == [
        {
            "event": "job.ended",
            "log_level": "warning",
            "status": "failed",
            "code": "out_of_memory",
            "error": "node 5 ran out of memory",
            "total_s": 2.0,
        }
    ]


async def test_its_time_stands_still_while_it_waits_for_models() -> None:
    """It leaves its place, has no deadline meanwhile, and then as much time as it had."""
    told = []

    @contextlib.asynccontextmanager
    async def stand_aside() -> AsyncIterator[None]:
        told.append("left")
        yield
        told.append("back")

    running = RunningJob(JobRequest(id="job", workflow={}), None, stand_aside=stand_aside)
    async with asyncio.timeout(60) as running.deadline:
        before = running.deadline.when()
        async with running.aside():
            assert (running.deadline.when(), told) == (None, ["left"])
            await asyncio.to_thread(time.sleep, 0.01)  # what is tested is that this much is given back
        after = running.deadline.when()
    assert told == ["left", "back"]
    assert before is not None
    assert after is not None
    assert after - before >= 0.01


async def test_the_platforms_own_limit_stays_while_it_waits(clock: Clock) -> None:
    """However much time of its own is left, it is over when the platform says so."""
    running = job(given_up_after_s=5.0)
    async with asyncio.timeout(60) as running.deadline:
        clock.now += 4.0
        async with running.aside():
            assert running.left_s == pytest.approx(1.0)
        when = running.deadline.when()
        assert when is not None
        assert when - asyncio.get_running_loop().time() <= 1.0
