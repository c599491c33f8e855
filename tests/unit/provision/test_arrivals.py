"""A job waits for the models that it needs, and for no others."""

import asyncio

import pytest

from comfyworker.errors import DownloadFailed
from comfyworker.jobs import JobError
from comfyworker.provision.arrivals import Arrivals
from comfyworker.provision.entries import ModelEntry

ENTRIES = (
    ModelEntry(url="https://example.org/a.safetensors", destination="checkpoints"),
    ModelEntry(url="https://example.org/x", destination="loras/wan", filename="b.safetensors"),
    ModelEntry(url="https://civitai.com/api/download/models/7", destination="unet"),
)


def test_what_the_config_does_not_ask_for_is_not_waited_for() -> None:
    """A folder or a name that no entry can become is not expected."""
    arrivals = Arrivals(ENTRIES)
    assert not arrivals.expects("vae", "a.safetensors")
    assert not arrivals.expects("loras", "b.safetensors")
    assert not arrivals.expects("loras", "wan/other.safetensors")


def test_names_are_those_of_a_workflow() -> None:
    """Folders below a kind are part of the name, in either slash; older names of a kind are the same kind."""
    arrivals = Arrivals(ENTRIES)
    assert arrivals.expects("loras", "wan/b.safetensors")
    assert arrivals.expects("loras", "wan\\b.safetensors")
    assert arrivals.expects("diffusion_models", "whatever.safetensors")


def test_where_no_folder_is_known_the_name_alone_counts() -> None:
    """The loader of a custom node may look anywhere; what is not asked for is still not expected."""
    arrivals = Arrivals(ENTRIES[:2])
    for number, place in enumerate(("checkpoints/a.safetensors", "loras/wan/b.safetensors")):
        arrivals.named(number, place)
    assert arrivals.expects(None, "wan/b.safetensors")
    assert arrivals.expects(None, "a.safetensors")
    assert not arrivals.expects(None, "c.safetensors")


def test_a_file_may_be_any_until_its_source_has_told_its_name() -> None:
    """Then it is only that one."""
    arrivals = Arrivals(ENTRIES)
    assert arrivals.expects("checkpoints", "other.safetensors")
    arrivals.named(0, "checkpoints/real.safetensors")
    assert not arrivals.expects("checkpoints", "other.safetensors")
    assert arrivals.expects("checkpoints", "real.safetensors")


async def test_waiting_ends_when_the_file_is_there() -> None:
    """A job hears of its own model, whatever becomes of the others."""
    arrivals = Arrivals(ENTRIES)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(arrivals.wait("loras", "wan/b.safetensors"))
        await asyncio.sleep(0)
        assert not waiting.done()
        arrivals.ended(1)
    assert not arrivals.expects("loras", "wan/b.safetensors")
    await arrivals.wait("vae", "nobody-asked.safetensors")


async def test_a_failure_is_told_to_who_needs_the_file() -> None:
    """The error is the download's own; a job that needs another file of the folder is not troubled."""
    arrivals = Arrivals(ENTRIES)
    arrivals.ended(0, JobError.of(DownloadFailed("it is gone", hint="look")))
    with pytest.raises(DownloadFailed, match="it is gone"):
        await arrivals.wait("checkpoints", "a.safetensors")
    await arrivals.wait("checkpoints", "other.safetensors")


async def test_the_end_of_all_frees_everybody() -> None:
    """Nobody waits for ever, also where everything failed at once."""
    arrivals = Arrivals(ENTRIES)
    arrivals.end_all(JobError.of(DownloadFailed("no room")))
    with pytest.raises(DownloadFailed, match="no room"):
        await arrivals.wait("loras", "wan/b.safetensors")
