"""How a worker of RunPod's begins and ends."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

from support import workflows
from support.command import call, environment
from support.eventually import eventually
from support.ports import free_port
from support.processes import is_running, parent_of
from support.real_comfyui import Install, RealComfyUI, comfyui_environ
from support.runpod_platform import RunPodPlatform
from support.runpod_worker import RunPodWorker, on_comfyui, runpod_worker
from support.stand_in import PROGRAM, StandIn


def children_of(pid: int) -> set[int]:
    """Return the ids of the processes that a process has started."""
    found = set()
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(ValueError, OSError):  # no process, or one that has just ended
            if is_running(int(folder.name)) and parent_of(int(folder.name)) == pid:
                found.add(int(folder.name))
    return found


async def taken(platform: RunPodPlatform, worker: RunPodWorker, count: int) -> None:
    """Wait until the worker has this many jobs, and asks for more or has no room for them."""
    await worker.logged("runpod.taking_jobs")
    await platform.until(lambda: sum(ticket.taken_at is not None for ticket in platform.tickets.values()) >= count)


async def test_sigterm_lets_jobs_end(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """What the worker holds is run and answered, what it does not hold stays with the platform; then it ends with 0."""
    gate = tmp_path / "gate"
    async with (
        RunPodPlatform() as platform,
        runpod_worker(platform, tmp_path / "worker", on_comfyui(comfyui)) as worker,
    ):
        tickets = await platform.submit_all([workflows.wait(until_file=gate, rgb=(1, 1, n)) for n in range(9)])
        await taken(platform, worker, 3)
        worker.process.send_signal(signal.SIGTERM)
        await worker.logged("runpod.draining")
        held = [ticket for ticket in tickets if ticket.taken_at is not None]
        gate.touch()
        assert await worker.ended() == 0
        assert [ticket.error for ticket in held] == [None] * len(held)
        assert [ticket for ticket in tickets if ticket.taken_at is not None] == held
        assert len(held) < len(tickets)


async def test_a_second_signal_does_not_wait(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Ctrl-C twice: jobs that would run for ever are answered at once."""
    environ = {**on_comfyui(comfyui), "DRAIN_TIMEOUT_S": "3600"}
    async with RunPodPlatform() as platform, runpod_worker(platform, tmp_path / "worker", environ) as worker:
        ticket = await platform.submit(workflows.wait(until_file=tmp_path / "never"))
        await taken(platform, worker, 1)
        worker.process.send_signal(signal.SIGINT)
        await worker.logged("runpod.draining")
        assert await worker.stop(signal.SIGINT) == 0
    assert ticket.output["error_code"] == "worker_restarted"


async def test_refresh_worker_takes_one_job(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Its answer asks RunPod to stop the pod; the other jobs stay with the platform, and the worker ends."""
    environ = {**on_comfyui(comfyui), "REFRESH_WORKER": "true"}
    async with RunPodPlatform() as platform, runpod_worker(platform, tmp_path / "worker", environ) as worker:
        tickets = await platform.submit_all([workflows.colour((5, 5, number)) for number in range(3)])
        assert await worker.ended() == 0
        assert platform.delivered == [f"{tickets[0].id}!"]
        assert platform.asked == [1]
        assert set(tickets[0].output) == {"images", "cold_start"}


async def test_a_stream_has_progress_files_and_the_answer(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """In this order; and /status has the same answer as without a stream, failures too.

    At the worker's end, clients of jobs that are not done after DRAIN_TIMEOUT_S are told that they may try again.
    """
    own = {"STREAM_OUTPUTS": "true", "RUNPOD_PROGRESS_INTERVAL_S": "0.05", "DRAIN_TIMEOUT_S": "0.1"}
    environ = {**on_comfyui(comfyui), **own}
    async with RunPodPlatform() as platform, runpod_worker(platform, tmp_path / "worker", environ) as worker:
        await worker.logged("runpod.taking_jobs")
        good = await platform.submit(workflows.wait(steps=30, seconds_per_step=0.02, rgb=(6, 6, 6)))
        large = await platform.submit(workflows.noise(800, 800))
        bad = await platform.submit(workflows.failing(message="bang"))
        await platform.wait(good, large, bad)
        stopped = await platform.submit(workflows.wait(until_file=tmp_path / "never"))
        await platform.until(lambda: stopped.pieces)
        await platform.stop(stopped)
        await worker.logged("job.canceled")
        undone = await platform.submit_all([workflows.wait(until_file=tmp_path / "never") for _ in range(3)])
        await platform.until(lambda: all(ticket.taken_at is not None for ticket in undone))
        assert await worker.stop() == 0
    assert [ticket.output["error_code"] for ticket in undone] == ["worker_restarted"] * 3
    assert stopped.result is None
    *told, file, answer = good.pieces
    assert told
    assert all(set(piece) == {"progress"} for piece in told)
    assert file == {"images": good.output["images"]}
    assert answer == good.output
    assert (good.error, good.is_stream) == (None, True)
    assert large.error is None
    assert [piece for piece in large.pieces if "images" in piece] == []
    assert "bang" in bad.error
    assert bad.output["error_code"] == "node_execution_error"


def started_at_s(pid: int) -> float:
    """Return when a process was started, in seconds since the machine was."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


async def test_comfyui_starts_first_and_nothing_outlives_the_worker(
    comfyui_install: Install, comfyui_base: Path, tmp_path: Path
) -> None:
    """ComfyUI boots while the SDK is imported; after kill -9 neither it nor the SDK's heartbeat lives on."""
    environ = {
        **comfyui_environ(environment()),
        "COMFYUI_PATH": str(comfyui_install.path),
        "COMFYUI_BASE_DIR": str(comfyui_base),
        "COMFYUI_PYTHON": str(comfyui_install.python),
        "COMFYUI_PORT": str(free_port()),
        "COMFYUI_ARGS": "--disable-api-nodes",
    }
    async with RunPodPlatform() as platform, runpod_worker(platform, tmp_path / "worker", environ) as worker:
        ticket = await platform.submit(workflows.colour((7, 7, 7)))
        await platform.wait(ticket)
        assert ticket.error is None
        phases = {phase["name"]: phase for phase in ticket.output["cold_start"]["phases"]}
        assert phases["comfyui"]["begun_s"] <= phases["sdk"]["begun_s"]
        assert phases["sdk"]["ended_s"] <= phases["comfyui"]["ended_s"]
        guard = worker.events("comfyui.started")[0]["pid"]
        # The kernel tells when a process began in ticks, cut off.
        apart_s = started_at_s(guard) - started_at_s(worker.pid) - 1 / os.sysconf("SC_CLK_TCK")
        assert apart_s <= phases["sdk"]["begun_s"]
        await platform.until(lambda: platform.pings)
        below = children_of(worker.pid)
        below |= {grandchild for child in below for grandchild in children_of(child)}
        assert len(below) >= 3  # the guard, ComfyUI, the heartbeat
        await worker.kill()
        await eventually(lambda: not [pid for pid in below if is_running(pid)], within_s=30)


def stand_in(folder: Path) -> tuple[dict[str, str], Path]:
    """Return the settings for a ComfyUI that starts in milliseconds, and its main.py."""
    main = folder / "ComfyUI/main.py"
    main.parent.mkdir(parents=True)
    main.write_text(PROGRAM, encoding="utf-8")
    environ = {
        "COMFYUI_PATH": str(main.parent),
        "COMFYUI_PYTHON": sys.executable,
        "COMFYUI_PORT": str(free_port()),
        "COMFYUI_RESTART_MAX_DELAY_S": "0",
    }
    return environ, main


async def test_a_worker_whose_comfyui_does_not_start_takes_no_job(tmp_path: Path) -> None:
    """It ends with 1 and says why; the job is another worker's."""
    environ, main = stand_in(tmp_path)
    await asyncio.to_thread(main.write_text, "import sys; sys.exit('no such GPU')", encoding="utf-8")
    async with RunPodPlatform() as platform, runpod_worker(platform, tmp_path / "worker", environ) as worker:
        ticket = await platform.submit(workflows.colour((8, 8, 8)))
        assert await worker.ended() == 1
        assert (ticket.taken_at, platform.asked) == (None, [])
        assert "[comfyui_crashed]" in worker.stderr()
        assert "no such GPU" in worker.stderr()


async def test_a_comfyui_of_somebody_elses_may_take_its_time(tmp_path: Path) -> None:
    """One at COMFY_API_URL that does not answer yet is waited for, and no job is taken meanwhile.

    Then a job is not lost that the platform hands over while the worker is just being told to end.
    """
    comfyui = StandIn()
    environ = {"COMFY_API_URL": comfyui.url, "COMFY_API_AVAILABLE_TIMEOUT_S": "0.1"}
    async with RunPodPlatform(poll_s=300) as platform, runpod_worker(platform, tmp_path / "worker", environ) as worker:
        await worker.logged("runpod.sdk_started")
        await worker.logged("comfyui.unreachable")
        assert platform.asked == []
        async with comfyui:
            await platform.until(lambda: platform.polls)
            worker.process.send_signal(signal.SIGTERM)
            ticket = await platform.submit(workflows.colour((4, 4, 4)))
            assert await worker.ended() == 0
        assert (ticket.taken_at is None, ticket.result is None) in {(True, True), (False, False)}
        assert platform.stop_polls == 1


async def crash_comfyui(worker: RunPodWorker, start: int) -> None:
    """Kill the ComfyUI of the worker's start number `start`, as soon as there is one."""

    def find() -> set[int]:
        started = worker.events("comfyui.started")
        return children_of(started[-1]["pid"]) if len(started) == start else set()

    (pid,) = await eventually(find, within_s=30)
    os.kill(pid, signal.SIGKILL)


async def test_a_broken_comfyui_recycles_the_worker(tmp_path: Path) -> None:
    """The jobs that wait for it fail, the last of them with the wish for a new worker, and no more are taken.

    While it is started anew, no more jobs are asked for; these come to a question that is open already.
    """
    environ, main = stand_in(tmp_path)
    async with RunPodPlatform(poll_s=300) as platform, runpod_worker(platform, tmp_path / "worker", environ) as worker:
        await platform.until(lambda: platform.polls)
        await asyncio.to_thread(main.write_text, "import time; time.sleep(3600)", encoding="utf-8")
        await crash_comfyui(worker, 1)
        await worker.logged("runpod.waiting_for_comfyui")
        await crash_comfyui(worker, 2)
        tickets = await platform.submit_all([workflows.colour((9, 9, number)) for number in range(2)])
        await taken(platform, worker, 2)
        await crash_comfyui(worker, 3)
        assert await worker.ended() == 1
        assert [ticket.output["error_code"] for ticket in tickets] == ["comfyui_crashed"] * 2
        assert [mark[-1] == "!" for mark in platform.delivered] == [False, True]


@pytest.mark.parametrize(
    ("environ", "hints"),
    [
        pytest.param({}, ("RUNPOD_WEBHOOK_GET_JOB", "comfyworker test", "comfyworker serve"), id="not on RunPod"),
        pytest.param({"RUNPOD_WEBHOOK_GET_JOB": "http://127.0.0.1:1/"}, ("comfyworker[runpod]",), id="no SDK"),
    ],
)
def test_a_worker_that_cannot_be_one_says_so(environ: dict[str, str], hints: tuple[str, ...], tmp_path: Path) -> None:
    """One error that names what to do; the tests' own environment has no SDK."""
    done = call("runpod", environ=environment() | environ, cwd=tmp_path)
    assert done.code == 1
    assert "[invalid_settings]" in done.err
    assert [hint for hint in hints if hint not in done.err] == []
