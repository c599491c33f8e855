"""Lives of ComfyUIs: started again when they die, waited for when they go away; with small programs in their place."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from comfyworker.comfyui.client import NotConnected
from comfyworker.comfyui.home import HomeRecord, TreeRecord, trees_folder, write_home
from comfyworker.comfyui.instance import ComfyUIInstance
from comfyworker.comfyui.locate import Installation
from comfyworker.comfyui.renewal import mark_nodes_changed
from comfyworker.comfyui.supervisor import StartOptions, attend, supervise, wait_silent
from comfyworker.comfyui.tracker import PromptTracker
from comfyworker.errors import ComfyUICrashed, ComfyUIUnreachable
from comfyworker.settings import ComfyUISettings
from support.eventually import eventually
from support.ports import free_port
from support.processes import is_running
from support.stand_in import PROGRAM, StandIn

FAST = {"websocket_reconnect_delay_s": 0.01, "available_interval_ms": 5, "restart_max_delay_s": 0.0}


@contextlib.asynccontextmanager
async def living(instance: ComfyUIInstance, life: Coroutine[Any, Any, None]) -> AsyncIterator[ComfyUIInstance]:
    """Let an instance live."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(life)
        try:
            yield instance
        finally:
            task.cancel()


def opener_of(session: aiohttp.ClientSession) -> Callable[[], Awaitable[aiohttp.ClientSession]]:
    """Return what hands out an open session."""

    async def open_session() -> aiohttp.ClientSession:
        return session

    return open_session


@contextlib.asynccontextmanager
async def attended(stand_in: StandIn, **settings: Any) -> AsyncIterator[ComfyUIInstance]:
    """Use a server that runs already."""
    async with aiohttp.ClientSession() as session:
        instance = ComfyUIInstance("test", opener_of(session), ComfyUISettings(**{**FAST, **settings}))
        async with living(instance, attend(instance, stand_in.url)):
            yield instance


@contextlib.asynccontextmanager
async def supervised(base_dir: Path, program: str, **settings: Any) -> AsyncIterator[ComfyUIInstance]:
    """Start a program as a ComfyUI."""
    (base_dir / "main.py").write_text(program)
    installation = Installation(path=base_dir, python=Path(sys.executable), version=None, base_dir=base_dir)
    async with started(installation, **settings) as instance:
        yield instance


@contextlib.asynccontextmanager
async def started(installation: Installation, **settings: Any) -> AsyncIterator[ComfyUIInstance]:
    """Start a ComfyUI."""
    options = StartOptions(port=free_port(), gpu=None, use_cpu=True, grace_s=1.0)
    async with aiohttp.ClientSession() as session:
        instance = ComfyUIInstance("test", opener_of(session), ComfyUISettings(**{**FAST, **settings}))
        async with living(instance, supervise(instance, installation, options)):
            yield instance


async def pid_of(instance: ComfyUIInstance) -> int:
    """Return the process that answers."""
    return int((await instance.client.system_stats())["pid"])


async def test_killed_it_is_started_again(tmp_path: Path) -> None:
    """A ComfyUI that dies is started again, and is ready again."""
    async with supervised(tmp_path, PROGRAM) as instance:
        await eventually(lambda: instance.is_ready)
        first = await pid_of(instance)
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: not instance.is_ready)
        await eventually(lambda: instance.is_ready)
        second = await pid_of(instance)
        assert second != first
    assert [is_running(first), is_running(second)] == [False, False]


async def test_another_version_is_started_once_no_job_is_on_it(tmp_path: Path) -> None:
    """When another tree of code has become the current one, the job that runs is ended first; then that one is run."""
    for name in ("one", "two"):
        (trees_folder(tmp_path) / name).mkdir(parents=True)
        (trees_folder(tmp_path) / name / "main.py").write_text(PROGRAM.replace("os.getpid()", f"{name!r}"))
    write_home(tmp_path, HomeRecord(current=TreeRecord(name="one")))
    installation = Installation(
        path=trees_folder(tmp_path) / "one", home_dir=tmp_path, python=Path(sys.executable), version=None,
        base_dir=tmp_path,
    )  # fmt: skip
    async with started(installation) as instance:
        await eventually(lambda: instance.is_ready)
        assert (await instance.client.system_stats())["pid"] == "one"
        instance.in_flight += 1
        write_home(tmp_path, HomeRecord(current=TreeRecord(name="two"), previous=TreeRecord(name="one")))
        mark_nodes_changed(tmp_path)
        await eventually(lambda: not instance.is_ready)
        instance.set_ready()  # as when a doubt is settled meanwhile: it answers, and is to end all the same
        assert not instance.is_ready
        assert (await instance.client.system_stats())["pid"] == "one"
        instance.in_flight -= 1
        await eventually(lambda: answers_as(instance, "two"))
        await eventually(lambda: instance.is_ready)


async def answers_as(instance: ComfyUIInstance, name: str) -> bool:
    """Whether the process that answers is the one of a name; False while none answers."""
    try:
        return bool((await instance.client.system_stats())["pid"] == name)
    except (ComfyUIUnreachable, NotConnected):
        return False


async def test_hung_it_is_started_again(tmp_path: Path) -> None:
    """A ComfyUI that lives but says nothing any more is killed and started again."""
    async with supervised(tmp_path, PROGRAM, hang_timeout_s=0.5) as instance:
        await eventually(lambda: instance.is_ready)
        first = await pid_of(instance)
        os.kill(first, signal.SIGSTOP)
        await eventually(lambda: instance.restarts == 1 and instance.is_ready)
        assert not is_running(first)
        assert await pid_of(instance) != first


async def test_one_that_is_idle_is_not_hung() -> None:
    """A ComfyUI that has nothing to say is asked now and then, and is silent only when it answers no more."""
    async with StandIn() as stand_in, attended(stand_in) as instance:
        await eventually(lambda: instance.is_ready and instance.socket.is_open)
        asked = stand_in.counts["/system_stats"]
        async with asyncio.TaskGroup() as group:
            silence = group.create_task(wait_silent(instance, 0.2))
            await eventually(lambda: stand_in.counts["/system_stats"] >= asked + 12)
            was_silent = silence.done()
            await stand_in.stop()
    assert (was_silent, silence.done()) == (False, True)


async def test_it_never_comes_up(tmp_path: Path) -> None:
    """A program that ends at its start is tried again and again, and those who wait are told why."""
    source = f"open({str(tmp_path / 'starts')!r}, 'a').write('x')\nprint('no libGL')\nraise SystemExit(3)"
    async with supervised(tmp_path, source) as instance:
        await eventually(lambda: (tmp_path / "starts").exists() and (tmp_path / "starts").stat().st_size >= 3)
        failure = instance.failure
    assert isinstance(failure, ComfyUICrashed)
    assert (failure.message, failure.details["log"]) == (
        "ComfyUI ended while it started (exit code 3)",
        ["no libGL"],
    )


async def test_stopped_while_it_boots(tmp_path: Path) -> None:
    """A worker that ends while ComfyUI boots leaves no process and no slot behind."""
    source = f"import os, signal\nopen({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}}\\n')\nsignal.pause()"
    async with supervised(tmp_path, source):
        await eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"))
    assert not is_running(int((tmp_path / "pid").read_text()))
    async with supervised(tmp_path, PROGRAM) as again:
        await eventually(lambda: again.is_ready)
        assert again.folders is not None
        assert again.folders.output == tmp_path / "output"


async def test_a_remote_that_comes_late() -> None:
    """A remote that does not answer is waited for; whoever waits longer than the limit is told, until it comes."""
    stand_in = StandIn()
    async with attended(stand_in, available_timeout_s=0.05) as instance:
        await eventually(lambda: instance.failure)
        assert isinstance(instance.failure, ComfyUIUnreachable)
        async with stand_in:
            await eventually(lambda: instance.is_ready)
            assert instance.failure is None


async def test_a_remote_that_goes_away_and_comes_back() -> None:
    """A remote that goes away takes no jobs, is given up after the limit, and is used again when it is back."""
    async with StandIn() as stand_in, attended(stand_in, available_timeout_s=0.2) as instance:
        await eventually(lambda: instance.is_ready and instance.socket.is_open)
        await stand_in.stop()
        await eventually(lambda: not instance.is_ready)
        await eventually(lambda: instance.failure)
        assert isinstance(instance.failure, ComfyUIUnreachable)
        await stand_in.start()
        await eventually(lambda: instance.is_ready and instance.socket.is_open)
        assert instance.failure is None


async def test_a_remote_that_was_changed_while_away() -> None:
    """A remote that comes back may be another one: its node classes are asked for anew."""
    async with StandIn() as stand_in, attended(stand_in) as instance:
        await eventually(lambda: instance.is_ready and instance.socket.is_open)
        assert (await instance.node_classes()).get("New") is None
        await stand_in.stop()
        await eventually(lambda: not instance.is_ready)
        stand_in.object_info = {"New": {"input": {}, "output": [], "output_node": False}}
        await stand_in.start()
        await eventually(lambda: instance.is_ready)
        assert (await instance.node_classes()).get("New") is not None


async def test_a_socket_that_is_cut_is_no_reason_to_ask_anew() -> None:
    """A remote whose socket was cut and opened again is ready all the time, and its classes are kept."""
    async with StandIn() as stand_in, attended(stand_in) as instance:
        await eventually(lambda: instance.is_ready and instance.socket.is_open)
        await instance.node_classes()
        await instance.socket.reopen()
        await eventually(lambda: instance.socket.openings == 2)
        await instance.node_classes()
        assert (instance.is_ready, stand_in.counts["/object_info"]) == (True, 1)


async def test_a_refused_submission_takes_the_remote_out() -> None:
    """A job that finds nobody listening says that it was not taken, and no other job is sent there before a look."""
    async with StandIn() as stand_in, attended(stand_in, websocket_reconnect_delay_s=60) as instance:
        await eventually(lambda: instance.is_ready and instance.socket.is_open)
        await instance.node_classes()
        readiness: list[bool] = []
        instance.on_change = lambda: readiness.append(instance.is_ready)
        await stand_in.stop()
        graph: dict[str, dict[str, Any]] = {"1": {"class_type": "A", "inputs": {}}}
        with pytest.raises(NotConnected):
            await instance.client.submit(graph, prompt_id="p", client_id="c", extra_data={})
        assert not instance.is_ready
        assert readiness[0] is False


async def test_a_job_that_is_refused_for_certain() -> None:
    """`execute` raises NotConnected only while nothing can have arrived, so that the job may go elsewhere."""
    settings = {"websocket_reconnect_attempts": 1}
    async with StandIn() as stand_in, attended(stand_in, **settings) as instance:
        await eventually(lambda: instance.is_ready and instance.socket.is_open)
        await instance.node_classes()
        await stand_in.stop()
        graph: dict[str, dict[str, Any]] = {"1": {"class_type": "A", "inputs": {}}}
        with pytest.raises(NotConnected):
            await instance.execute(
                graph, prompt_id="p", tracker=PromptTracker(graph, {}), extra_data={}, withdraw_within_s=1.0
            )
