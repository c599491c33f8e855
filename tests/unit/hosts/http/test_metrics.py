"""What Prometheus reads of models that are brought nearer."""

from pathlib import Path

from prometheus_client import generate_latest

from comfyworker.hosts.http.metrics import Metrics
from comfyworker.prefetch.copies import LocalCopies
from comfyworker.prefetch.figures import Nearness
from comfyworker.prefetch.prefetch import Hints, ModelPrefetch
from comfyworker.prefetch.recent import RecentModels
from comfyworker.settings import load_settings
from support.model_files import write_model


def samples(metrics: Metrics) -> dict[str, float]:
    """Return what is told of models, by name and labels."""
    lines = generate_latest(metrics.registry).decode().splitlines()
    pairs = [line.rpartition(" ") for line in lines if line.startswith("comfyworker_model_")]
    return {name: float(value) for name, _, value in pairs}


async def test_models_that_are_brought_nearer(tmp_path: Path) -> None:
    """Where jobs found theirs, what was brought, and what copies take now."""
    write_model(tmp_path / "cache/0123/loras/a.safetensors", b"12345")
    hints = Hints(recent=RecentModels(list), of_config=lambda: (), sha256_of=lambda _file: None)
    copies = LocalCopies(tmp_path / "cache", most_bytes=10)
    prefetch = ModelPrefetch(load_settings({"LOCAL_MODEL_CACHE_GB": "1"}).volume, hints, copies=copies)
    prefetch.figures.use(Nearness.COPY)
    prefetch.figures.copied(5)
    prefetch.figures.read(7)
    prefetch.figures.evicted()
    metrics = Metrics()
    await metrics.look_at_models(prefetch)
    assert samples(metrics) == {
        'comfyworker_model_uses{place="copy"}': 1,
        'comfyworker_model_brought_bytes{to="copy"}': 5,
        'comfyworker_model_brought_bytes{to="memory"}': 7,
        "comfyworker_model_copies": 1,
        "comfyworker_model_copies_bytes": 5,
        "comfyworker_model_copies_evicted": 1,
    }


async def test_a_worker_that_brings_none_nearer() -> None:
    """Most do not."""
    metrics = Metrics()
    await metrics.look_at_models(None)
    assert set(samples(metrics).values()) == {0}
