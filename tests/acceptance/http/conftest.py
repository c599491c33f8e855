"""Fixtures for tests over real sockets."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from support.real_comfyui import RealComfyUI
from support.serving import Serving, serving, session


@pytest.fixture
async def server(comfyui: RealComfyUI, tmp_path: Path) -> AsyncIterator[Serving]:
    """Start a server that anybody may ask."""
    async with serving(comfyui.url, tmp_path / "state") as server:
        yield server


@pytest.fixture
async def client(server: Serving) -> AsyncIterator[aiohttp.ClientSession]:
    """Open a plain client."""
    async with session(server) as client:
        yield client
