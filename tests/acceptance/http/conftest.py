"""Fixtures for tests over real sockets.

The tests of a module share one server, since each start of one costs seconds: none of them harms it, and each begins
when it has nothing to do. Who wants a server of another kind for all its tests has a `shared_server` of its own; who
looks at all that a server has, or ends it, takes `own_server`, or starts one.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from support.eventually import eventually
from support.real_comfyui import RealComfyUI
from support.serving import Serving, get, ready, serving, session


@pytest.fixture(scope="module")
def api_key() -> str | None:
    """Return the key that the module's server wants; None: anybody may ask it."""
    return None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_server(
    _shared_comfyui: RealComfyUI, tmp_path_factory: pytest.TempPathFactory, api_key: str | None
) -> AsyncIterator[Serving]:
    """Start the server that the tests of a module share."""
    environ = {} if api_key is None else {"API_KEYS": api_key}
    async with serving(_shared_comfyui.url, tmp_path_factory.mktemp("server") / "state", environ=environ) as server:
        yield server


@pytest.fixture
async def server(comfyui: RealComfyUI, shared_server: Serving, api_key: str | None) -> Serving:
    """Return the module's server, which has nothing to do."""
    del comfyui
    async with session(shared_server, key=api_key) as client:

        async def is_idle() -> bool:
            _, health = await get(client, "/health")
            return bool(health["jobs"]["inQueue"] + health["jobs"]["inProgress"] == 0)

        await eventually(is_idle, within_s=60)
    return shared_server


@pytest.fixture
async def client(server: Serving) -> AsyncIterator[aiohttp.ClientSession]:
    """Open a plain client of the module's server."""
    async with session(server) as client:
        yield client


@pytest.fixture
async def own_server(comfyui: RealComfyUI, tmp_path: Path) -> AsyncIterator[Serving]:
    """Start a server for one test, which keeps its state in `tmp_path / "state"`."""
    environ = {"COMFYUI_BASE_DIR": str(comfyui.base_dir)}
    async with serving(comfyui.url, tmp_path / "state", environ=environ) as server:
        await ready(server)
        yield server


@pytest.fixture
async def own_client(own_server: Serving) -> AsyncIterator[aiohttp.ClientSession]:
    """Open a plain client of the test's own server."""
    async with session(own_server) as client:
        yield client
