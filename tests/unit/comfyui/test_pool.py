"""Which ComfyUI a job gets, and who gets one first; with ComfyUIs that are only said to be ready."""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from comfyworker.comfyui.instance import ComfyUIInstance
from comfyworker.comfyui.pool import ComfyUIPool, visible_gpus
from comfyworker.errors import ComfyUICrashed, ComfyUINotFound, ComfyUIUnreachable, ProvisioningFailed, WorkerError
from comfyworker.settings import ComfyUISettings, ShutdownSettings
from support.eventually import eventually
from support.ports import free_port

MakePool = Callable[..., ComfyUIPool]
NONE: frozenset[str] = frozenset()


@pytest.fixture
def make_pool(tmp_path: Path) -> MakePool:
    """Return a function that makes a pool of so many ComfyUIs, none of them ready."""

    def make(count: int, **settings: Any) -> ComfyUIPool:
        pool = ComfyUIPool(ComfyUISettings(**settings), ShutdownSettings(), cwd=tmp_path)
        pool.instances = tuple(pool._instance(index) for index in range(count))
        return pool

    return make


def ready(pool: ComfyUIPool) -> list[ComfyUIInstance]:
    """Say that all ComfyUIs of a pool are ready."""
    for instance in pool.instances:
        instance.set_ready()
    return list(pool.instances)


async def settle() -> None:
    """Let every task go on as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_least_loaded_is_chosen(make_pool: MakePool) -> None:
    """Jobs spread over the ComfyUIs, and a place that becomes free is taken next."""
    pool = make_pool(3)
    first, second, third = ready(pool)
    async with contextlib.AsyncExitStack() as stack:
        chosen = [await stack.enter_async_context(pool.lease(NONE)) for _ in range(2)]
        async with pool.lease(NONE) as last:
            chosen.append(last)
        chosen.append(await stack.enter_async_context(pool.lease(NONE)))
        assert chosen == [first, second, third, third]
    assert [instance.in_flight for instance in pool.instances] == [0, 0, 0]


async def test_among_equals_the_one_that_has_the_model(make_pool: MakePool) -> None:
    """A job goes to where its models are likely loaded, unless another ComfyUI has less to do."""
    pool = make_pool(2)
    first, second = ready(pool)
    second.models = frozenset({"a.safetensors", "b.safetensors"})
    async with pool.lease(frozenset({"a.safetensors"})) as busy:
        assert (busy, second.models) == (second, frozenset({"a.safetensors"}))
        async with pool.lease(frozenset({"a.safetensors"})) as other:
            assert other is first


async def test_a_job_without_models_unloads_nothing(make_pool: MakePool) -> None:
    """What a ComfyUI has loaded is still known after a job that names no model."""
    pool = make_pool(1)
    (instance,) = ready(pool)
    instance.models = frozenset({"a.safetensors"})
    async with pool.lease(NONE):
        pass
    assert instance.models == {"a.safetensors"}


async def test_first_come_first_served(make_pool: MakePool) -> None:
    """Jobs beyond the queue depth wait and get their places in the order in which they came."""
    pool = make_pool(1, queue_depth=1)
    ready(pool)
    served: list[int] = []
    gates = [asyncio.Event() for _ in range(4)]

    async def job(number: int) -> None:
        async with pool.lease(NONE):
            served.append(number)
            await gates[number].wait()

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(job(number))
        for number, gate in enumerate(gates):
            await settle()
            assert served == list(range(number + 1))
            gate.set()


async def test_one_that_waits_is_cancelled(make_pool: MakePool) -> None:
    """A job that is cancelled while it waits takes no place and lets the next one through."""
    pool = make_pool(1, queue_depth=1)
    (instance,) = ready(pool)
    served: list[str] = []

    async def job(name: str) -> None:
        async with pool.lease(NONE):
            served.append(name)

    async with pool.lease(NONE):
        waiting, behind = asyncio.ensure_future(job("waiting")), asyncio.ensure_future(job("behind"))
        await settle()
        waiting.cancel()
        await settle()
        assert served == []
    await behind
    assert (served, instance.in_flight, waiting.cancelled()) == (["behind"], 0, True)


async def test_waiting_for_one_that_boots(make_pool: MakePool) -> None:
    """Jobs wait while a ComfyUI may still come, even if another one has failed."""
    pool = make_pool(2)
    pool.instances[0].set_gone(ComfyUICrashed("first"))

    async def job() -> ComfyUIInstance:
        async with pool.lease(NONE) as instance:
            return instance

    waiting, asking = asyncio.ensure_future(job()), asyncio.ensure_future(pool.any_ready())
    await settle()
    assert not waiting.done()
    assert not asking.done()
    pool.instances[1].set_ready()
    assert (await waiting, await asking) == (pool.instances[1], pool.instances[1])


async def test_all_have_failed(make_pool: MakePool) -> None:
    """When no ComfyUI is likely to come, everyone who waits is told the reason of the first."""
    pool = make_pool(2)

    async def job() -> None:
        async with pool.lease(NONE):
            pass

    waiting = [asyncio.ensure_future(job()) for _ in range(3)] + [asyncio.ensure_future(pool.any_ready())]
    await settle()
    failure = ComfyUICrashed("first")
    pool.instances[1].set_gone(ComfyUIUnreachable("second"))
    pool.instances[0].set_gone(failure)
    assert await asyncio.gather(*waiting, return_exceptions=True) == [failure] * 4


async def test_one_that_is_gone_gets_nothing(make_pool: MakePool) -> None:
    """A ComfyUI that went away takes no jobs, and takes them again when it is back."""
    pool = make_pool(2)
    first, second = ready(pool)
    first.set_gone(ComfyUIUnreachable("away"))
    async with pool.lease(NONE) as one, pool.lease(NONE) as other:
        assert (one, other) == (second, second)
        first.set_ready()
        assert first.failure is None
        async with pool.lease(NONE) as back:
            assert back is first


async def test_a_question_goes_to_a_busy_one_too(make_pool: MakePool) -> None:
    """For questions about node classes a ComfyUI need not have room in its queue."""
    pool = make_pool(1, queue_depth=1)
    (instance,) = ready(pool)
    async with pool.lease(NONE):
        assert await pool.any_ready() is instance


async def test_there_is_no_comfyui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool without any ComfyUI to start does not open."""
    monkeypatch.setattr("comfyworker.comfyui.locate.KNOWN_PLACES", ())
    with pytest.raises(ComfyUINotFound):
        async with ComfyUIPool(ComfyUISettings(), ShutdownSettings(), cwd=tmp_path):
            pass


@pytest.mark.parametrize(("named", "expected"), [("", ()), ("-1", ()), ("0, 2", ("0", "2")), ("GPU-a", ("GPU-a",))])
async def test_gpus_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, named: str, expected: tuple[str, ...]
) -> None:
    """CUDA_VISIBLE_DEVICES decides which GPUs there are, none included."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert await visible_gpus() == expected


class Before:
    """What must be done before a ComfyUI is started: waits for the test, then fails if it shall."""

    def __init__(self, error: WorkerError | None = None) -> None:
        """Succeed, or raise `error`."""
        self.may_end = asyncio.Event()
        self.begun = 0
        self._error = error

    async def work(self) -> None:
        """Do it."""
        self.begun += 1
        await self.may_end.wait()
        if self._error is not None:
            raise self._error


def preparing(before: Before, folder: Path, *, count: int) -> ComfyUIPool:
    """Return a pool of ComfyUIs whose main.py only says that it was begun, in a file of its own."""
    folder.mkdir()
    (folder / "main.py").write_text("import os\nopen(f'begun-{os.getpid()}', 'w').close()\nraise SystemExit(3)\n")
    (folder / "nodes.py").touch()
    (folder / "comfyui_version.py").write_text('__version__ = "0.0.0"\n')
    settings = ComfyUISettings(path=folder, python=Path(sys.executable), instances=count, port=free_port())
    return ComfyUIPool(settings, ShutdownSettings(), cwd=folder, before_start=before.work)


async def test_what_comes_before_is_done_once_for_all(tmp_path: Path) -> None:
    """No ComfyUI is started before it is done, however many there are; then all are."""
    before, folder = Before(), tmp_path / "ComfyUI"
    async with preparing(before, folder, count=3) as pool:
        await eventually(lambda: before.begun == 1)
        await settle()
        assert pool.is_preparing
        assert list(folder.glob("begun-*")) == []
        before.may_end.set()
        await eventually(lambda: len(list(folder.glob("begun-*"))) >= 3)
        assert (before.begun, pool.is_preparing) == (1, False)


async def test_what_comes_before_fails_for_all(tmp_path: Path) -> None:
    """Its error is the answer to everybody who waits for a ComfyUI; none is started."""
    error = ProvisioningFailed("a custom node does not load", hint="Mend it.")
    before, folder = Before(error), tmp_path / "ComfyUI"
    async with preparing(before, folder, count=2) as pool:

        async def job() -> None:
            async with pool.lease(NONE):
                pass

        waiting = [asyncio.ensure_future(job()), asyncio.ensure_future(pool.any_ready())]
        await eventually(lambda: before.begun == 1)
        before.may_end.set()
        assert await asyncio.gather(*waiting, return_exceptions=True) == [error] * 2
        assert [instance.failure for instance in pool.instances] == [error] * 2
        assert (before.begun, pool.is_preparing, list(folder.glob("begun-*"))) == (1, False, [])


async def test_what_comes_before_ends_with_the_pool(tmp_path: Path) -> None:
    """A worker that is stopped meanwhile does not wait for it."""
    before = Before()
    async with preparing(before, tmp_path / "ComfyUI", count=2):
        await eventually(lambda: before.begun == 1)
    assert before.begun == 1
