"""ComfyUIs that are not to be spoken to yet."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import aiohttp

from comfyworker.comfyui.pool import ComfyUIPool
from comfyworker.settings import ComfyUISettings, ShutdownSettings
from support.eventually import eventually
from support.ports import free_port
from support.stand_in import PROGRAM, StandIn

# Whatever asked for the node classes or the state without being told to would be counted.
COUNTING = PROGRAM.replace(
    "    def do_GET(self):", "    def do_GET(self):\n        print(self.path, file=open('asked', 'a'), flush=True)"
)


def pool_of(cwd: Path, hold: asyncio.Event, **settings: Any) -> ComfyUIPool:
    """Return a pool that waits for `hold`."""
    chosen = ComfyUISettings(available_interval_ms=5, websocket_reconnect_delay_s=0.01, **settings)
    return ComfyUIPool(chosen, ShutdownSettings(grace_s=1.0), cwd=cwd, hold=hold)


async def answers(url: str) -> bool:
    """Tell whether a server is up."""
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(f"{url}/by-the-test"):
                return True
        except aiohttp.ClientError:
            return False


async def test_one_that_we_start_is_started_but_not_asked(tmp_path: Path) -> None:
    """Its process does not wait until the host is ready for it, and it is not asked before."""
    (tmp_path / "main.py").write_text(COUNTING)
    hold, port = asyncio.Event(), free_port()
    settings = {"path": tmp_path, "python": Path(sys.executable), "port": port}
    async with pool_of(tmp_path, hold, **settings) as pool:
        await eventually(lambda: answers(f"http://127.0.0.1:{port}"))
        assert {*(tmp_path / "asked").read_text().split()} == {"/by-the-test"}
        assert not pool.instances[0].is_ready
        hold.set()
        await eventually(lambda: pool.instances[0].is_ready)


async def test_one_that_runs_already_is_not_asked(tmp_path: Path) -> None:
    """A ComfyUI of COMFY_API_URL hears of us only when the host is ready for it."""
    hold = asyncio.Event()
    async with StandIn() as stand_in, pool_of(tmp_path, hold, api_urls=(stand_in.url,)) as pool:
        await eventually(lambda: answers(stand_in.url))
        assert stand_in.counts == {"/by-the-test": 1}
        hold.set()
        await eventually(lambda: pool.instances[0].is_ready)


async def test_one_that_waits_is_given_up_at_once(tmp_path: Path) -> None:
    """A pool that ends before its host was ready does not wait for that."""
    async with StandIn() as stand_in, asyncio.timeout(30), pool_of(tmp_path, asyncio.Event(), api_urls=(stand_in.url,)):
        pass
    assert stand_in.counts == {}
