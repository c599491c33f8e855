"""Fixtures for tests of the worker on Vast.ai, over real sockets."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from support.real_comfyui import RealComfyUI
from support.serving import Serving
from support.vast_platform import VastPlatform
from support.vast_worker import Certificate, make_certificate, plain_session, vast_worker


@pytest.fixture
async def platform() -> AsyncIterator[VastPlatform]:
    """Start Vast's platform for one endpoint."""
    async with VastPlatform() as platform:
        yield platform


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Make an instance's certificate."""
    return make_certificate(tmp_path_factory.mktemp("instance"))


@pytest.fixture
async def worker(
    comfyui: RealComfyUI, platform: VastPlatform, certificate: Certificate, tmp_path: Path
) -> AsyncIterator[Serving]:
    """Start a worker with TLS that checks signatures, and wait until it has been rated."""
    environ = {**certificate.variables(), "COMFYUI_BASE_DIR": str(comfyui.base_dir)}
    async with vast_worker(comfyui.url, tmp_path / "state", platform, environ=environ) as worker:
        await platform.until_status(lambda status: status["max_perf"] > 0)
        yield worker


@pytest.fixture
async def client(worker: Serving, certificate: Certificate) -> AsyncIterator[aiohttp.ClientSession]:
    """Open a client that trusts the instance's certificate."""
    async with plain_session(worker, certificate) as client:
        yield client
