"""A ComfyUI that the worker starts itself: slow, dying, and leaving processes behind."""

import asyncio
import json
import os
import signal
from pathlib import Path

import psutil

from support import workflows
from support.eventually import eventually
from support.pipelines import Watch, code, colour_of, files_in, pipeline_of_own, pipeline_on, request
from support.ports import free_port
from support.processes import is_running
from support.proxy import ALWAYS, FaultProxy
from support.real_comfyui import Install, RealComfyUI


def add_node_pack(base_dir: Path, name: str, source: str) -> None:
    """Put a custom node into a ComfyUI's folder that does something while it is imported."""
    pack = base_dir / "custom_nodes" / name
    pack.mkdir()
    (pack / "__init__.py").write_text(f"{source}\nNODE_CLASS_MAPPINGS = {{}}\n", encoding="utf-8")


async def test_killed_in_the_middle_of_a_job(comfyui_base: Path, comfyui_install: Install) -> None:
    """When ComfyUI is killed, the running job fails with its last log lines; the waiting and the next one succeed."""
    gate, watch = comfyui_base / "gate", Watch()
    crash = workflows.crash()
    crash["3"] = workflows.node("TestWait", image=["1", 0], steps=1, seconds_per_step=0.0, until_file=str(gate))
    crash["2"]["inputs"]["image"] = ["3", 0]
    async with pipeline_of_own(comfyui_base, comfyui_install.path, free_port()) as pipeline:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(pipeline.run(request(crash), on_progress=watch))
            await watch.until_class("TestWait")
            waiting = group.create_task(pipeline.run(request(workflows.colour((10, 20, 30)))))
            client = pipeline.pool.instances[0].client

            async def has_both() -> bool:
                return len((await client.queue()).pending) == 1

            await eventually(has_both)
            gate.touch()
        crashed = running.result()
        assert crashed.error is not None
        assert (crashed.error.code, crashed.error.retryable) == ("comfyui_crashed", True)
        assert "signal SIGKILL" in crashed.error.message
        assert "TestCrash: the last words before the end" in json.dumps(crashed.error.details["log"])
        assert str(comfyui_base) not in crashed.error.model_dump_json()
        assert colour_of(waiting.result().artifacts[0]) == (10, 20, 30)
        assert code(await pipeline.run(request(workflows.colour((1, 2, 3))))) == "succeeded"
        again = (await pipeline.run(request(crash))).error
        assert again is not None
        assert (again.code, again.retryable, again.details["crashes"]) == ("comfyui_crashed", False, 2)
        assert again.message == f"{crashed.error.message}; it has ended on this job 2 times"
    # Nothing held the second crash up: of a picture that was saved just before it, nobody may have been told.
    prefix = crash[workflows.SAVE]["inputs"]["filename_prefix"]
    left = files_in(comfyui_base / "output")
    assert [name for name in left if not name.startswith(prefix)] == []
    assert len(left) <= 1


async def test_hung_in_the_middle_of_a_job(comfyui_base: Path, comfyui_install: Install) -> None:
    """When ComfyUI lives but answers nobody, it is killed, the running job fails and the next one succeeds."""
    watch, port = Watch(), free_port()
    limits = {"COMFYUI_HANG_TIMEOUT_S": "3"}
    async with pipeline_of_own(comfyui_base, comfyui_install.path, port, **limits) as pipeline:
        async with asyncio.TaskGroup() as group:
            graph = workflows.wait(steps=1, until_file=comfyui_base / "never")
            job = group.create_task(pipeline.run(request(graph), on_progress=watch))
            await watch.until_class("TestWait")
            os.kill(pid_of(port), signal.SIGSTOP)
        hung = job.result().error
        assert hung is not None
        assert (hung.code, hung.message) == (
            "comfyui_crashed",
            "ComfyUI ended unexpectedly (killed, since it had not answered for 3 s)",
        )
        assert code(await pipeline.run(request(workflows.colour((1, 2, 3))))) == "succeeded"


GPU_FAULT = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be reported later."


async def test_a_gpu_that_is_broken(comfyui_base: Path, comfyui_install: Install) -> None:
    """A ComfyUI that can use its GPU no more is started anew, and the waiting job runs all the same."""
    port = free_port()
    async with pipeline_of_own(comfyui_base, comfyui_install.path, port) as pipeline:
        assert code(await pipeline.run(request(workflows.failing("RuntimeError", "an ordinary fault")))) != "succeeded"
        first = pid_of(port)
        breaking, waiting = (
            request(workflows.failing("RuntimeError", GPU_FAULT)),
            request(workflows.colour((10, 20, 30))),
        )
        broken, result = await asyncio.gather(pipeline.run(breaking), pipeline.run(waiting))
        assert broken.error is not None
        assert (broken.error.code, broken.error.retryable, broken.error.message) == (
            "comfyui_crashed",
            True,
            "node 2 (TestRaise) broke ComfyUI's use of the GPU: CUDA error: an illegal memory access was encountered",
        )
        assert colour_of(result.artifacts[0]) == (10, 20, 30)
        await eventually(
            lambda: pipeline.pool.instances[0].restarts == 1 and pipeline.pool.instances[0].is_ready, within_s=60
        )
        assert pid_of(port) != first
        assert not is_running(first)


async def test_a_gpu_that_is_broken_elsewhere(comfyui: RealComfyUI) -> None:
    """A ComfyUI that is not ours to start anew takes no jobs until somebody has done so."""
    async with FaultProxy(comfyui.url) as proxy, pipeline_on(comfyui, proxy.url) as pipeline:
        broken = await pipeline.run(request(workflows.failing("RuntimeError", GPU_FAULT)))
        refused = await pipeline.run(request(workflows.colour((1, 2, 3))))
        assert [code(broken), code(refused)] == ["comfyui_crashed", "comfyui_crashed"]
        assert proxy.count("POST", "/prompt") == 1
        proxy.refuse_sockets = True  # as while it is started anew
        down = proxy.drop_request("GET", "/system_stats", times=ALWAYS)
        proxy.cut_sockets_now()
        await eventually(lambda: proxy.count("GET", "/system_stats") >= 3)
        proxy.refuse_sockets = False
        down.stop()
        await eventually(lambda: pipeline.pool.instances[0].is_ready)
        assert code(await pipeline.run(request(workflows.colour((1, 2, 3))))) == "succeeded"


def pid_of(port: int) -> int:
    """Return the process of the ComfyUI that we have started on a port."""
    pids: list[int] = [
        process.pid
        for process in psutil.Process().children(recursive=True)
        if process.cmdline()[-1] == str(port) and not any("_guard.py" in part for part in process.cmdline())
    ]
    assert len(pids) == 1
    return pids[0]


async def test_slow_to_boot_and_processes_left_behind(comfyui_base: Path, comfyui_install: Install) -> None:
    """A job waits for a ComfyUI that boots slowly; at the end no process that a node started is left."""
    gate, pid_file, watch = comfyui_base / "boot-gate", comfyui_base / "pids.json", Watch()
    add_node_pack(
        comfyui_base,
        "slow",
        f"import os, time\nwhile not os.path.exists({str(gate)!r}):\n    time.sleep(0.01)",
    )
    async with pipeline_of_own(comfyui_base, comfyui_install.path, free_port()) as pipeline:
        async with asyncio.TaskGroup() as group:
            job = group.create_task(pipeline.run(request(workflows.spawn(pid_file)), on_progress=watch))
            await watch.until_message("waiting for ComfyUI")
            gate.touch()
        assert code(job.result()) == "succeeded"
        pids = list(json.loads(pid_file.read_text(encoding="utf-8")).values())
        assert [is_running(pid) for pid in pids] == [True, True]
    assert [is_running(pid) for pid in pids] == [False, False]


async def test_dies_while_it_starts(comfyui_base: Path, comfyui_install: Install) -> None:
    """A ComfyUI that never comes up fails the job at its first end, with the lines that say why."""
    add_node_pack(comfyui_base, "fatal", "import os\nprint('fatal: no libGL here', flush=True)\nos._exit(3)")
    async with pipeline_of_own(comfyui_base, comfyui_install.path, free_port()) as pipeline:
        result = await pipeline.run(request(workflows.colour((1, 2, 3))))
    assert result.error is not None
    assert (result.error.code, result.error.message) == (
        "comfyui_crashed",
        "ComfyUI ended while it started (exit code 3)",
    )
    assert "fatal: no libGL here" in json.dumps(result.error.details["log"])


async def test_does_not_answer_in_time(comfyui_base: Path, comfyui_install: Install) -> None:
    """A ComfyUI that does not answer within COMFYUI_START_TIMEOUT_S is stopped, and the job told so."""
    add_node_pack(comfyui_base, "stuck", "import time\ntime.sleep(3600)")
    async with pipeline_of_own(
        comfyui_base, comfyui_install.path, free_port(), COMFYUI_START_TIMEOUT_S="1", SHUTDOWN_GRACE_S="1"
    ) as pipeline:
        result = await pipeline.run(request(workflows.colour((1, 2, 3))))
    assert result.error is not None
    assert result.error.code == "comfyui_unreachable"
    assert result.error.message.startswith("ComfyUI did not answer within 1 s")


async def test_several_on_one_folder(comfyui_base: Path, comfyui_install: Install) -> None:
    """Two ComfyUIs on the same folders run jobs at once, and each answer holds its own job's pixels."""
    colours = [(index * 20, 255 - index * 20, index) for index in range(8)]
    async with pipeline_of_own(comfyui_base, comfyui_install.path, free_port(), COMFYUI_INSTANCES="2") as pipeline:
        await eventually(lambda: [one.is_ready for one in pipeline.pool.instances] == [True, True], within_s=120)
        graphs = [workflows.wait(steps=1, seconds_per_step=0.2, rgb=colour) for colour in colours]
        for graph in graphs:
            graph[workflows.SAVE]["inputs"]["filename_prefix"] = "same"
        results = await asyncio.gather(*(pipeline.run(request(graph)) for graph in graphs))
    assert [colour_of(result.artifacts[0]) for result in results] == colours
    assert files_in(comfyui_base / "output") == []
