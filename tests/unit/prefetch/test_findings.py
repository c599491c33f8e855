"""What `comfyworker doctor` says of models that are brought nearer."""

from pathlib import Path

import pytest

from comfyworker.comfyui.finding import Level
from comfyworker.prefetch.findings import prefetch_findings
from comfyworker.settings import VolumeSettings, load_settings
from support.model_files import order_on, write_model


def settings(cache: Path, **more: str) -> VolumeSettings:
    """Return settings that copy to `cache`."""
    return load_settings({"LOCAL_MODEL_CACHE_GB": "0.001", "LOCAL_MODEL_CACHE_DIR": str(cache), **more}).volume


def test_nothing_is_said_of_what_is_off(tmp_path: Path) -> None:
    """Most workers prefetch nothing."""
    assert prefetch_findings(VolumeSettings(), [tmp_path]) == []


def test_how_much_may_be_read_ahead() -> None:
    """The memory that can be had now."""
    [finding] = prefetch_findings(load_settings({"PREFETCH_MODELS": "readahead"}).volume, [])
    assert finding.level is Level.OK
    assert isinstance(finding.facts["available_bytes"], int)


def test_what_is_copied(tmp_path: Path) -> None:
    """How many, how large, of how much; nothing is made by looking."""
    cache = tmp_path / "cache"
    [before] = prefetch_findings(settings(cache), [])
    assert not cache.exists()
    write_model(cache / order_on(tmp_path).digest / "loras/a.safetensors", b"12345")
    [after] = prefetch_findings(settings(cache), [])
    assert (before.level, before.facts["files"]) == (Level.OK, 0)
    assert (after.level, after.facts["files"], after.facts["size_bytes"]) == (Level.OK, 1, 5)
    assert after.text.startswith(f"1 model has a copy in {cache}: ")


@pytest.mark.parametrize("case", ["a file", "on the volume", "the same disk", "too small"])
def test_what_is_wrong_with_the_place(tmp_path: Path, case: str) -> None:
    """Each with what to do."""
    volume, cache = tmp_path / "volume", tmp_path / "cache"
    volume.mkdir()
    told = {
        "a file": "It cannot be written.",
        "on the volume": "It lies on a volume that models are copied from",
        "the same disk": "It is on the same disk as all volumes",
        "too small": "The disk is too small for that.",
    }
    if case == "a file":
        cache.touch()
    if case == "on the volume":
        cache = volume / "cache"
    size = {"LOCAL_MODEL_CACHE_GB": "1e9"} if case == "too small" else {}
    [finding] = prefetch_findings(settings(cache, **size), [] if case == "too small" else [volume])
    assert finding.level is Level.WARNING
    assert told[case] in finding.text
    assert finding.advice
