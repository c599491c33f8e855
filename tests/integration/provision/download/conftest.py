"""A server of models, and a way to fetch from it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import stamina

from support.downloads import MEBIBYTE, Fetcher, content
from support.model_server import Model, ModelServer


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    """Try again at once."""
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    """Return a running server with a model of 12 MiB, `a.safetensors`."""
    async with ModelServer() as server:
        server.add("a.safetensors", Model(content(12 * MEBIBYTE)))
        yield server


@pytest.fixture
def model(server: ModelServer) -> Model:
    """Return the model that the server has."""
    return server.models["a.safetensors"]


@pytest.fixture
def fetch(server: ModelServer, tmp_path: Path) -> Fetcher:
    """Return what fetches into an empty folder."""
    return Fetcher(server, tmp_path / "models" / "checkpoints")
