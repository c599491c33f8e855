"""What the command tells of models that are copied to the local disk."""

from pathlib import Path

from comfyworker.prefetch.copies import LocalCopies
from support.command import call, environment
from support.model_files import found, order_on, write_model


def test_copies_are_told_of(tmp_path: Path) -> None:
    """`models list` marks the models that have one; `doctor` says where they are, and what contradicts them."""
    volume, cache = tmp_path / "volume", tmp_path / "cache"
    write_model(volume / "checkpoints/near.safetensors", b"12345")
    write_model(volume / "loras/far.safetensors")
    copies = LocalCopies(cache, most_bytes=100, spare_bytes=0)
    copies.open(order_on(volume))
    file = found(copies.order, "near.safetensors")
    draft = copies.begin(file, keep=frozenset(), evicts=True)
    draft.write(memoryview(b"12345"), 0)
    copies.place(draft, file)
    environ = environment(MODELS_PATH=str(volume), LOCAL_MODEL_CACHE_GB="1", LOCAL_MODEL_CACHE_DIR=str(cache))

    listed = call("models", "list", "--json", environ=environ, cwd=tmp_path)
    assert {model["place"]: model["is_copied"] for model in listed.json()["models"]} == {
        "checkpoints/near.safetensors": True,
        "loras/far.safetensors": False,
    }
    shown = call("models", "list", environ=environ, cwd=tmp_path)
    assert f"1 of them copied to {cache}" in shown.out + shown.err

    told = call("doctor", "--json", environ=environ, cwd=tmp_path).json()["findings"]
    [finding] = [finding for finding in told if finding["area"] == "prefetch"]
    assert (finding["facts"]["path"], finding["facts"]["files"]) == (str(cache), 1)
    told = call("doctor", "--json", environ=environ | {"COMFY_API_URL": "127.0.0.1:1"}, cwd=tmp_path).json()["findings"]
    [finding] = [finding for finding in told if finding["area"] == "prefetch"]
    assert finding["level"] == "problem"
    assert "COMFY_API_URL is set, and models shall be copied" in finding["text"]
