"""Fixtures for all tests: a clean process state, a real ComfyUI, and real object stores."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from comfyworker.settings import list_settings
from support.object_store import ObjectStore, shared_object_store
from support.object_store_azurite import AzureStore, shared_azure_store
from support.object_store_proxy import StoreProxy
from support.proxy import FaultProxy
from support.real_comfyui import Install, RealComfyUI, find_install, lay_out, make_checkpoint, shared_comfyui
from support.scheduling import make_scheduler, slowest_first
from support.stash import ENVIRON, OWNER_PID


def pytest_configure(config: pytest.Config) -> None:
    """Keep the environment in which pytest was started, and the id of the process that governs the run."""
    # A thread of torch that has nothing to do would spin, on processors that others of the run wait for: several
    # ComfyUIs on two cores need five times as much of them for a picture.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell began the run in the background; what the tests start would not hear Ctrl-C either.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    hypothesis.settings.register_profile(
        "untimed", deadline=None
    )  # how fast a busy machine is says nothing of our code
    hypothesis.settings.load_profile("untimed")
    config.stash[ENVIRON] = dict(os.environ)
    config.stash[OWNER_PID] = getattr(config, "workerinput", {}).get("owner_pid", os.getpid())


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Tell each worker of pytest-xdist who governs the run."""
    node.workerinput["owner_pid"] = os.getpid()  # type: ignore[attr-defined]  # xdist has no types


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Give the tests of a file to one worker."""
    return make_scheduler(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have the workers of pytest-xdist begin with what takes long."""
    if hasattr(config, "workerinput"):
        slowest_first(items)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every setting that the tester's own environment holds, under all its names."""
    for entry in list_settings():
        for name in entry.names:
            monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _clean_state() -> Iterator[None]:
    """Reset structlog."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(scope="session")
def comfyui_install(pytestconfig: pytest.Config) -> Install:
    """Return the ComfyUI on disk that the tests start."""
    return find_install(pytestconfig.stash[ENVIRON])


@pytest.fixture(scope="session")
def checkpoint(pytestconfig: pytest.Config, comfyui_install: Install) -> Path:
    """Return the tiny random checkpoint."""
    return make_checkpoint(comfyui_install, pytestconfig.stash[ENVIRON])


@pytest.fixture
def comfyui_base(tmp_path: Path, checkpoint: Path) -> Path:
    """Lay out a base directory for a ComfyUI of the test's own: the test harms it, or looks at its folders whole."""
    return lay_out(tmp_path / "comfyui", checkpoint)


@pytest.fixture(scope="session")
def _shared_dir(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all processes of the run know, and no other run."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if hasattr(pytestconfig, "workerinput") else base


@pytest.fixture(scope="session")
def _shared_comfyui(pytestconfig: pytest.Config, _shared_dir: Path) -> RealComfyUI:
    """Start a ComfyUI for each worker of pytest-xdist: it runs one prompt at a time, and tests look at its queue."""
    folder = _shared_dir / getattr(pytestconfig, "workerinput", {}).get("workerid", "main")
    folder.mkdir(exist_ok=True)
    return shared_comfyui(folder, pytestconfig.stash[OWNER_PID], pytestconfig.stash[ENVIRON])


@pytest.fixture
def comfyui(_shared_comfyui: RealComfyUI) -> RealComfyUI:
    """Return the real ComfyUI that all tests share; a test that harms it takes `comfyui_base` instead."""
    assert _shared_comfyui.is_running(), f"an earlier test ended the shared ComfyUI:\n{_shared_comfyui.log_tail()}"
    return _shared_comfyui


@pytest.fixture
async def proxy(comfyui: RealComfyUI) -> AsyncIterator[FaultProxy]:
    """Return a proxy before the shared ComfyUI, which makes faults when told to."""
    async with FaultProxy(comfyui.url) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def object_store(pytestconfig: pytest.Config, _shared_dir: Path) -> ObjectStore:
    """Return the S3 server that all tests of the run share; each makes buckets of its own in it."""
    return shared_object_store(_shared_dir, pytestconfig.stash[OWNER_PID], pytestconfig.stash[ENVIRON])


@pytest.fixture(scope="session")
def late_object_store(pytestconfig: pytest.Config, _shared_dir: Path) -> ObjectStore:
    """Return an S3 server whose clock is an hour ahead: whatever we sign is too old for it."""
    stash = pytestconfig.stash
    return shared_object_store(_shared_dir, stash[OWNER_PID], stash[ENVIRON], clock_shift_s=3600)


@pytest.fixture(scope="session")
def azure_store(pytestconfig: pytest.Config, _shared_dir: Path) -> AzureStore:
    """Return the Azure Blob server that all tests of the run share; each makes containers of its own in it."""
    return shared_azure_store(_shared_dir, pytestconfig.stash[OWNER_PID], pytestconfig.stash[ENVIRON])


@pytest.fixture
async def store_proxy(object_store: ObjectStore) -> AsyncIterator[StoreProxy]:
    """Return a proxy before the object store, which makes faults when told to."""
    async with StoreProxy(object_store.endpoint_url) as proxy:
        yield proxy
