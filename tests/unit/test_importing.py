"""Imports that take long, and the one that is put off."""

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from comfyworker.importing import undisturbed

USE_AIOHTTP = """
import sys
from comfyworker.deferred import aiohttp, load_aiohttp
assert "aiohttp" not in sys.modules
print(aiohttp.ClientTimeout(total=1).total)
import aiohttp as real
assert aiohttp.ClientError is real.ClientError
"""
LOAD_AIOHTTP = """
import asyncio, sys, threading
from comfyworker.deferred import load_aiohttp
loaders = []
sys.meta_path.insert(0, type("Watch", (), {"find_spec": lambda self, name, *rest: loaders.append(
    threading.current_thread()) if name == "aiohttp" else None})())
asyncio.run(load_aiohttp())
assert "aiohttp" in sys.modules
assert loaders and threading.main_thread() not in loaders
"""


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Leave the collector as it was."""
    was_enabled = gc.isenabled()
    yield
    gc.unfreeze()
    (gc.enable if was_enabled else gc.disable)()


def run(code: str) -> str:
    """Return what a clean interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_collector_waits_and_goes_on_without_what_came() -> None:
    """Within the block nothing is collected; after it, what was there is not looked at any more, what comes is."""
    gc.enable()
    with undisturbed():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_the_collector_goes_on_after_an_import_that_fails() -> None:
    """A module that is not there leaves no process without a collector."""
    gc.enable()
    with pytest.raises(ImportError), undisturbed():
        raise ImportError
    assert gc.isenabled()


def test_blocks_within_each_other_end_with_the_outer_one() -> None:
    """A collector that was off stays off."""
    gc.enable()
    with undisturbed():
        with undisturbed():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_aiohttp_comes_when_it_is_used_and_is_the_real_one() -> None:
    """What stands for aiohttp brings nothing by itself, and has aiohttp's own names."""
    assert run(USE_AIOHTTP) == "1\n"


def test_aiohttp_is_loaded_beside_the_event_loop() -> None:
    """Its import is a thread's work."""
    run(LOAD_AIOHTTP)
