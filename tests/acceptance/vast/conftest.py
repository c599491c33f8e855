"""Fixtures for tests of the worker on Vast.ai, over real sockets.

The tests of a module share one worker, since each start of one costs seconds: none of them harms it, and each begins
when the platform has been told of all that came before, and has forgotten it. Who needs a worker of another kind starts
it, with a platform of its own.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
import pytest_asyncio

from support import workflows
from support.certificates import Certificate
from support.real_comfyui import RealComfyUI
from support.serving import Serving
from support.vast_platform import VastPlatform
from support.vast_worker import certificate_variables, make_instance_certificate, plain_session, settle, vast_worker


class Shared(NamedTuple):
    """What the tests of a module have together."""

    platform: VastPlatform
    worker: Serving
    client: aiohttp.ClientSession


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Make an instance's certificate."""
    return make_instance_certificate(tmp_path_factory.mktemp("instance"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _shared(
    _shared_comfyui: RealComfyUI, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shared]:
    """Start a worker with TLS that checks signatures, and wait until it has been rated."""
    environ = {**certificate_variables(certificate), "COMFYUI_BASE_DIR": str(_shared_comfyui.base_dir)}
    state: Path = tmp_path_factory.mktemp("vast") / "state"
    async with (
        VastPlatform() as platform,
        vast_worker(_shared_comfyui.url, state, platform, environ=environ) as worker,
        plain_session(worker, certificate) as client,
    ):
        await platform.until_status(lambda status: status["max_perf"] > 0)
        yield Shared(platform, worker, client)


@pytest_asyncio.fixture(loop_scope="module")
async def platform(_shared: Shared) -> VastPlatform:
    """Return the platform, which knows of nothing but that the worker is ready."""
    await settle(_shared.platform, _shared.client, workflows.colour((5, 5, 5)))
    return _shared.platform


@pytest.fixture
def worker(_shared: Shared, platform: VastPlatform) -> Serving:
    """Return the worker, which has nothing to do."""
    del platform
    return _shared.worker


@pytest.fixture
def client(_shared: Shared, platform: VastPlatform) -> aiohttp.ClientSession:
    """Return a client that trusts the instance's certificate."""
    del platform
    return _shared.client
