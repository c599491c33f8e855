"""Which models are brought nearer for jobs, and how near they then are."""

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from comfyworker.comfyui.locate import Installation
from comfyworker.comfyui.model_places import ModelPlace, Origin
from comfyworker.errors import InvalidSettings
from comfyworker.jobs import Graph
from comfyworker.prefetch.copies import LocalCopies
from comfyworker.prefetch.figures import Nearness
from comfyworker.prefetch.order import ModelFile, SearchOrder
from comfyworker.prefetch.prefetch import Hints, ModelPrefetch
from comfyworker.prefetch.recent import Named, RecentModels
from comfyworker.prefetch.warmth import Warmth
from comfyworker.settings import load_settings
from support.eventually import eventually
from support.model_files import order_on, write_model

COPY = load_settings({"PREFETCH_MODELS": "copy", "LOCAL_MODEL_CACHE_GB": "1"}).volume
READ_AHEAD = load_settings({"PREFETCH_MODELS": "readahead"}).volume
PLENTY = 10**12


@dataclass
class Ground:
    """A volume, a cache, and what is known beside the jobs."""

    root: Path
    of_config: Sequence[Named] = ()
    sha256: dict[str, str] = field(default_factory=dict)
    most_bytes: int = 100
    memory: int = PLENTY
    fault: Exception | None = None

    @property
    def volume(self) -> Path:
        """Where models lie."""
        return self.root / "volume"

    @property
    def order(self) -> SearchOrder:
        """How ComfyUI looks there."""
        return order_on(self.volume)

    @property
    def cache(self) -> Path:
        """Where their copies are."""
        return self.root / "cache" / self.order.digest

    def is_copied(self, *names: str) -> bool:
        """Tell whether these and no other models are copied."""
        found = {path.name for path in self.cache.rglob("*") if path.is_file() and not path.is_symlink()}
        return found - {".order.json"} == set(names)

    def noted_sha256(self, file: ModelFile) -> str | None:
        """Return what was noted of a file."""
        if self.fault is not None:
            raise self.fault
        return self.sha256.get(file.name)

    @contextlib.asynccontextmanager
    async def prefetch(self, *, copies: bool = True) -> AsyncIterator[ModelPrefetch]:
        """Bring models nearer, in its thread."""
        hints = Hints(
            recent=RecentModels(lambda: [self.root / "state"]),
            of_config=lambda: self.of_config,
            sha256_of=self.noted_sha256,
        )
        cache = LocalCopies(self.root / "cache", most_bytes=self.most_bytes, spare_bytes=0) if copies else None
        prefetch = ModelPrefetch(
            COPY if copies else READ_AHEAD, hints, copies=cache, warmth=Warmth(lambda: self.memory)
        )
        if cache is not None:
            cache.open(self.order)
        prefetch.begin_with(self.order)
        thread = threading.Thread(target=prefetch.work)
        thread.start()
        try:
            yield prefetch
        finally:
            prefetch.stop()
            await asyncio.to_thread(thread.join)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    """Return a volume with a few checkpoints of ten bytes."""
    for name in "abcd":
        write_model(tmp_path / f"volume/checkpoints/{name}.safetensors", name.encode() * 10)
    return Ground(tmp_path)


def job(*names: str) -> Graph:
    """Return a workflow that loads these checkpoints."""
    return {
        name: {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": f"{name}.safetensors"}} for name in names
    }


async def test_a_jobs_models_are_copied(ground: Ground) -> None:
    """Also when the job ends before; the next one finds the copy, and it is counted."""
    async with ground.prefetch() as prefetch:
        async with prefetch.wanted(job("a", "b")):
            pass
        await eventually(lambda: ground.is_copied("a.safetensors", "b.safetensors"))
        async with prefetch.wanted(job("a")):
            pass
    assert prefetch.figures.uses == {Nearness.DISK: 2, Nearness.COPY: 1}
    assert (prefetch.figures.copied_files, prefetch.figures.copied_bytes) == (2, 20)


async def test_what_was_used_is_copied_by_the_next_worker(ground: Ground) -> None:
    """Before any job; then what config.yml asks for, while there is room: those evict nothing."""
    ground.most_bytes = 30
    async with ground.prefetch() as prefetch, prefetch.wanted(job("c")):
        await eventually((ground.root / "state/recent-models.json").exists)
    ground.of_config = [("checkpoints", "a.safetensors"), ("checkpoints", "d.safetensors"), ("loras", "none.pt")]
    (ground.cache / "checkpoints/c.safetensors").unlink(missing_ok=True)
    write_model(ground.volume / "checkpoints/b.safetensors", b"b" * 20)
    ground.of_config = [*ground.of_config, ("checkpoints", "b.safetensors")]
    with capture_logs() as events:
        async with ground.prefetch():
            await eventually(lambda: ground.is_copied("c.safetensors", "a.safetensors", "d.safetensors"))
            await eventually(lambda: any(event["event"] == "prefetch.not_copied" for event in events))
    copied = [event["model"] for event in events if event["event"] == "prefetch.model_copied"]
    assert copied == ["c.safetensors", "a.safetensors", "d.safetensors"]
    assert ground.is_copied("c.safetensors", "a.safetensors", "d.safetensors")


async def test_a_job_evicts_what_no_job_needs(ground: Ground) -> None:
    """`a` is needed still, so `b` goes, although it was used later; it is counted."""
    ground.most_bytes = 20
    async with ground.prefetch() as prefetch, prefetch.wanted(job("a")):
        await eventually(lambda: ground.is_copied("a.safetensors"))
        async with prefetch.wanted(job("b")):
            await eventually(lambda: ground.is_copied("a.safetensors", "b.safetensors"))
        async with prefetch.wanted(job("c")):
            await eventually(lambda: ground.is_copied("a.safetensors", "c.safetensors"))
    assert prefetch.figures.evicted_files == 1


async def test_a_job_that_has_ended_evicts_too(ground: Ground) -> None:
    """What jobs use now is worth more than what they used before, however short they are."""
    ground.most_bytes = 20
    async with ground.prefetch() as prefetch:
        for name in "abc":
            async with prefetch.wanted(job(name)):
                pass
        await eventually(lambda: ground.is_copied("b.safetensors", "c.safetensors"))
    assert prefetch.figures.evicted_files == 1


async def test_what_does_not_fit_is_read_ahead(ground: Ground) -> None:
    """A model that is too large for copies is at least in memory when ComfyUI wants it; the log says it once."""
    ground.most_bytes = 5
    with capture_logs() as events:
        async with ground.prefetch() as prefetch:
            for _ in range(2):
                async with prefetch.wanted(job("a")):
                    await eventually(lambda: any(event["event"] == "prefetch.model_read" for event in events))
    assert [event["event"] for event in events if event["event"] == "prefetch.not_copied"] == ["prefetch.not_copied"]
    assert prefetch.figures.uses == {Nearness.DISK: 1, Nearness.MEMORY: 1}
    assert prefetch.figures.read_bytes == 10


async def test_a_job_reads_ahead(ground: Ground) -> None:
    """Nothing is written; the next job finds it in memory and reads nothing."""
    async with ground.prefetch(copies=False) as prefetch:
        async with prefetch.wanted(job("a")):
            await eventually(lambda: prefetch.figures.read_bytes == 10)
        await eventually((ground.root / "state/recent-models.json").exists)
        async with prefetch.wanted(job("a")), prefetch.wanted(job("b")):
            await eventually(lambda: prefetch.figures.read_bytes == 20)
    assert prefetch.figures.uses == {Nearness.DISK: 2, Nearness.MEMORY: 1}
    assert not (ground.root / "cache").exists()


async def test_a_job_that_waits_for_comfyui_reads_ahead(ground: Ground) -> None:
    """Its models are read before its workflow is put together, once, and counted once."""
    async with ground.prefetch(copies=False) as prefetch, prefetch.wanted(job("a"), is_early=True):
        await eventually(lambda: prefetch.figures.read_bytes == 10)
        async with prefetch.wanted(job("a", "b")):
            await eventually(lambda: prefetch.figures.read_bytes == 20)
    assert prefetch.figures.uses == {Nearness.MEMORY: 1, Nearness.DISK: 1}


async def test_short_memory_is_left_alone(ground: Ground) -> None:
    """A job's model that would not fit is read by ComfyUI alone, and the log says so once."""
    ground.memory = 10
    with capture_logs() as events:
        async with ground.prefetch(copies=False) as prefetch:
            for _ in range(2):
                async with prefetch.wanted(job("a")):
                    await eventually(lambda: any(event["event"] == "prefetch.memory_short" for event in events))
    assert [event["event"] for event in events].count("prefetch.memory_short") == 1
    assert prefetch.figures.read_bytes == 0


async def test_a_damaged_model_is_not_copied(ground: Ground) -> None:
    """It is told once, and ComfyUI reads it where it lies; a new file of that name is copied."""
    ground.sha256["a.safetensors"] = hashlib.sha256(b"as it was").hexdigest()
    with capture_logs() as events:
        async with ground.prefetch() as prefetch:
            for name in ("a", "a", "b"):
                async with prefetch.wanted(job(name)):
                    pass
            await eventually(lambda: ground.is_copied("b.safetensors"))
            write_model(ground.volume / "checkpoints/a.safetensors", b"as it was")
            async with prefetch.wanted(job("a")):
                await eventually(lambda: ground.is_copied("a.safetensors", "b.safetensors"))
    damaged = [event for event in events if event["event"] == "prefetch.model_damaged"]
    assert [(event["model"], event["log_level"]) for event in damaged] == [("a.safetensors", "error")]


async def test_what_is_on_the_local_disk_is_not_copied(ground: Ground) -> None:
    """ComfyUI's own folder is as near as a copy would be."""
    async with ground.prefetch() as prefetch:
        assert prefetch.copies is not None
        only = ground.volume / "checkpoints/c.safetensors"
        prefetch.copies.order = SearchOrder(folders=ground.order.folders, volumes=(only,))
        async with prefetch.wanted(job("a", "b", "c")):
            await eventually(lambda: prefetch.figures.copied_files == 1)
    assert ground.is_copied("c.safetensors")


async def test_what_nobody_can_read_is_told(ground: Ground) -> None:
    """One file that fails does not keep the others from being copied."""
    (ground.volume / "checkpoints/a.safetensors").unlink()
    (ground.volume / "checkpoints/a.safetensors").symlink_to(ground.volume / "checkpoints/b.safetensors")
    ground.of_config = [("checkpoints", "c.safetensors")]
    async with ground.prefetch() as prefetch, prefetch.wanted(job("a", "missing")):
        await eventually(lambda: ground.is_copied("a.safetensors", "c.safetensors"))
    assert prefetch.figures.copied_files == 2


async def test_a_worker_that_ends_leaves_no_draft(ground: Ground) -> None:
    """What was under way is begun anew by the next one."""
    os.truncate(ground.volume / "checkpoints/a.safetensors", 100_000_000)
    ground.most_bytes = 10**9
    async with ground.prefetch() as prefetch, prefetch.wanted(job("a")):
        await eventually(lambda: list((ground.root / "cache/.drafts").glob("*.part")))
    assert list((ground.root / "cache/.drafts").iterdir()) == []


async def test_before_it_knows_where_models_are_it_does_nothing(ground: Ground) -> None:
    """Jobs may come before ComfyUI was looked for."""
    hints = Hints(recent=RecentModels(lambda: [ground.root]), of_config=lambda: (), sha256_of=lambda _file: None)
    has_begun = False
    async with ModelPrefetch(READ_AHEAD, hints).wanted(job("a")):
        has_begun = True
    assert has_begun


async def test_a_fault_of_ours_ends_prefetching_alone(ground: Ground) -> None:
    """Jobs go on."""
    ground.fault = RuntimeError()
    with capture_logs() as events:
        async with ground.prefetch() as prefetch:
            async with prefetch.wanted(job("a")):
                await eventually(lambda: any(event["event"] == "prefetch.broke" for event in events))
            async with prefetch.wanted(job("b")):
                pass
    assert list((ground.root / "cache/.drafts").iterdir()) == []


def installation(root: Path) -> Installation:
    """Return a ComfyUI in `root`."""
    return Installation(path=root, python=Path("/python"), version=None, base_dir=root)


def test_copies_on_the_volume_are_refused(tmp_path: Path) -> None:
    """They would be as slow as the models."""
    hints = Hints(recent=RecentModels(lambda: [tmp_path]), of_config=lambda: (), sha256_of=lambda _file: None)
    prefetch = ModelPrefetch(COPY, hints, copies=LocalCopies(tmp_path / "volume/cache", most_bytes=1))
    place = ModelPlace(root=tmp_path / "volume", origin=Origin.NETWORK_VOLUME)
    with pytest.raises(InvalidSettings, match="LOCAL_MODEL_CACHE_DIR lies on the volume"):
        prefetch.begin(installation(tmp_path / "own"), [place], {})


def test_a_folder_that_cannot_be_written_ends_copying(tmp_path: Path) -> None:
    """ComfyUI starts without it, and the log says what to do."""
    hints = Hints(recent=RecentModels(lambda: [tmp_path]), of_config=lambda: (), sha256_of=lambda _file: None)
    (tmp_path / "cache").touch()
    prefetch = ModelPrefetch(COPY, hints, copies=LocalCopies(tmp_path / "cache", most_bytes=1))
    with capture_logs() as events:
        assert prefetch.begin(installation(tmp_path / "own"), [], {}) == {}
    assert events[0]["event"] == "prefetch.copies_given_up"
    assert "LOCAL_MODEL_CACHE_DIR" in events[0]["advice"]
    assert prefetch.copies is None
