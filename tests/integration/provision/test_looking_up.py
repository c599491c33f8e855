"""Sizes and hashes of proposed models, from a server that speaks as the Hub does."""

from pathlib import Path

import pytest

from comfyworker.provision.proposal import Proposal, ProposedModel
from comfyworker.provision.proposal.looking_up import look_up
from comfyworker.settings import load_settings
from support.model_server import Model, ModelServer


async def test_what_the_hub_says() -> None:
    """Size and hash of what can be asked; a note for what cannot; the rest stays as it is."""
    async with ModelServer() as server:
        model = server.add("a.safetensors", Model(b"a model" * 1000))
        hub = "https://huggingface.co/owner/name/resolve/main"
        known = ProposedModel(filename="a.safetensors", destination="vae", url=f"{hub}/a.safetensors")
        gone = ProposedModel(filename="b.safetensors", destination="vae", url=f"{hub}/b.safetensors")
        unknown = ProposedModel(filename="c.safetensors", destination=None)
        settings = load_settings({"HF_ENDPOINT": server.url})
        done = await look_up(Proposal(models=(known, gone, unknown)), settings.provision, settings.store)
    assert done.models == (
        known.model_copy(update={"sha256": model.sha256, "size_bytes": len(model.body)}),
        gone,
        unknown,
    )
    (note,) = done.not_looked_up
    assert note.startswith(f"{hub}/b.safetensors is not there")
    assert sum(server.sent.values()) <= 1


async def test_without_a_network() -> None:
    """The proposal is of use all the same."""
    model = ProposedModel(filename="a.safetensors", destination="vae", url="https://huggingface.co/o/n/resolve/main/a")
    settings = load_settings({"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"})
    done = await look_up(Proposal(models=(model,)), settings.provision, settings.store)
    assert done.models == (model,)
    assert done.not_looked_up == ("https://huggingface.co/o/n/resolve/main/a is not fetched: HF_HUB_OFFLINE is set",)


async def test_without_a_network_the_cache_of_other_programs_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that huggingface_hub has fetched is there with its size, and its hash in its name."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    sha256 = "ab" * 32
    repository = tmp_path / "models--o--n"
    for folder in ("blobs", "refs", "snapshots/c0ffee/vae"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs/main").write_text("c0ffee")
    (repository / "blobs" / sha256).write_bytes(b"a model")
    (repository / "snapshots/c0ffee/vae/a.safetensors").symlink_to(repository / "blobs" / sha256)
    hub = "https://huggingface.co/o/n/resolve/main/vae"
    known = ProposedModel(filename="a.safetensors", destination="vae", url=f"{hub}/a.safetensors")
    gone = ProposedModel(filename="b.safetensors", destination="vae", url=f"{hub}/b.safetensors")
    settings = load_settings({"HF_HUB_OFFLINE": "1"})
    done = await look_up(Proposal(models=(known, gone)), settings.provision, settings.store)
    assert done.models == (known.model_copy(update={"sha256": sha256, "size_bytes": 7}), gone)
    assert done.not_looked_up == (f"{hub}/b.safetensors is not fetched: HF_HUB_OFFLINE is set",)
