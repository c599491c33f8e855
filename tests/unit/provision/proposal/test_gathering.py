"""From workflows to what a config.yml asks for."""

from typing import Any

import pytest

from comfyworker.jobs import Graph
from comfyworker.provision.proposal import ProposedModel, Source, merge_proposals, propose_config
from comfyworker.workflow import NodeClasses
from comfyworker.workflow.metadata import ListedModel, listed_in_graph

URL = "https://example.com/a.safetensors"
DIGEST = "ab" * 32


def node(class_type: str, meta: dict[str, Any] | None = None, **inputs: Any) -> dict[str, Any]:
    """Return a node in API format."""
    return {"class_type": class_type, "inputs": inputs, **({"_meta": meta} if meta else {})}


def models(graph: Graph, *listed: ListedModel) -> tuple[ProposedModel, ...]:
    """Return the models that are proposed for a workflow."""
    return propose_config(Source(graph, listed_models=(*listed, *listed_in_graph(graph)))).models


@pytest.mark.parametrize(
    ("class_type", "input_name", "name", "place"),
    [
        ("LoraLoader", "lora_name", "wan/high.safetensors", ("loras/wan", "high.safetensors")),
        ("LoraLoader", "lora_name", "wan\\high.safetensors", ("loras/wan", "high.safetensors")),
        ("UNETLoader", "unet_name", "x.safetensors", ("diffusion_models", "x.safetensors")),
        ("UltralyticsDetectorProvider", "model_name", "bbox/face.pt", ("ultralytics/bbox", "face.pt")),
        ("SomebodysLoader", "thing", "x.onnx", (None, "x.onnx")),
    ],
)
def test_where_a_model_goes(class_type: str, input_name: str, name: str, place: tuple[str | None, str]) -> None:
    """Folders in a model's name are a part of its destination, whichever system the name was written on."""
    (model,) = models({"1": {"class_type": class_type, "inputs": {input_name: name}}})
    assert (model.place, model.is_whole) == (place, False)


@pytest.mark.parametrize(
    "name", ["siglip-large-patch16-512", "google/siglip-large-patch16-512", "C:\\m\\siglip-large-patch16-512\\"]
)
def test_a_folder_of_files(name: str) -> None:
    """Some loaders take a whole folder, by its name, its repository's or a path; its files are told by a person."""
    (model,) = models({"1": node("IPAdapterFluxLoader", ipadapter="x.bin", clip_vision=name)})[:1]
    place = "clip_vision/siglip-large-patch16-512"
    assert (model.is_whole, model.fault) == (
        False,
        f"a folder: each of its files needs an entry with destination {place}",
    )


def test_a_name_that_leads_out_is_no_entry() -> None:
    """It is there with its fault."""
    (model,) = models(
        {"1": node("LoraLoader", lora_name="../../x.safetensors")},
        ListedModel("../../x.safetensors", "loras", URL, "1"),
    )
    assert (model.is_whole, model.fault) == (False, "'loras/../..' leads out of ComfyUI's models folder")


@pytest.mark.parametrize("url", ["https://user:secret@example.com/x", "ftp://example.com/x", "/etc/passwd", "https://"])
def test_a_url_that_no_config_takes_is_left_out(url: str) -> None:
    """Secrets, other schemes and paths of the author's machine do not come into a config."""
    (model,) = models(
        {"1": node("LoraLoader", lora_name="x.safetensors")}, ListedModel("x.safetensors", "loras", url, "1")
    )
    assert (model.url, model.other_urls) == (None, ())


def test_metadata_of_a_file_with_folders_in_its_name() -> None:
    """Metadata names the file alone, the input with its folder: they are the same."""
    listed = ListedModel("high.safetensors", "loras", URL, "1", DIGEST)
    (model,) = models({"1": node("LoraLoader", lora_name="wan/high.safetensors")}, listed)
    assert (model.place, model.url, model.sha256) == (("loras/wan", "high.safetensors"), URL, DIGEST)


def test_one_name_in_two_folders() -> None:
    """Each gets the URL of its own folder."""
    graph = {
        "1": node("VAELoader", vae_name="x.safetensors"),
        "2": node("UNETLoader", unet_name="x.safetensors"),
    }
    listed = (ListedModel("x.safetensors", "vae", f"{URL}?vae", "1"), ListedModel("x.safetensors", None, URL, "2"))
    found = {model.destination: model.url for model in models(graph, *listed)}
    assert found == {"diffusion_models": URL, "vae": f"{URL}?vae"}


def test_what_api_format_says_itself() -> None:
    """`_meta.models` of a node is read as `properties.models` of one in GUI format."""
    meta = {
        "models": [{"name": "x.safetensors", "url": URL, "directory": "vae", "hash": DIGEST, "hash_type": "SHA256"}]
    }
    (model,) = models({"1": node("VAELoader", meta, vae_name="x.safetensors")})
    assert model == ProposedModel(
        filename="x.safetensors", destination="vae", url=URL, sha256=DIGEST, wanted_by=("node 1 (VAELoader)",)
    )


def test_a_model_that_no_input_names_is_there_too() -> None:
    """A node that loads by itself may list what it needs."""
    meta = {"models": [{"name": "x.onnx", "url": URL, "directory": "detection"}]}
    (model,) = models({"1": node("Detect", meta)})
    assert (model.place, model.is_whole) == (("detection", "x.onnx"), True)


def test_several_workflows_are_one_config() -> None:
    """A model of both is there once, with both URLs and all nodes that want it."""
    one = propose_config(
        Source(
            {"1": node("VAELoader", vae_name="x.safetensors")},
            listed_models=(ListedModel("x.safetensors", "vae", f"{URL}?download=true", "1"),),
            label="a.json",
        )
    )
    two = propose_config(
        Source(
            {"7": node("VAELoader", vae_name="x.safetensors"), "8": node("VHS_VideoCombine")},
            listed_models=(ListedModel("x.safetensors", "vae", "https://example.org/b", "7"),),
            label="b.json",
        )
    )
    merged = merge_proposals([one, two, two])
    assert merged.models == (
        ProposedModel(
            filename="x.safetensors",
            destination="vae",
            url=URL,
            other_urls=("https://example.org/b",),
            wanted_by=("a.json: node 1 (VAELoader)", "b.json: node 7 (VAELoader)"),
        ),
    )
    assert [pack.url for pack in merged.packs] == ["https://github.com/Kosinkadink/ComfyUI-VideoHelperSuite"]


def test_only_what_is_missing() -> None:
    """What the ComfyUI that was asked has is left out."""
    classes = NodeClasses(
        {
            "VAELoader": {"input": {"required": {"vae_name": [["there.safetensors"]]}}, "python_module": "nodes"},
            "VHS_LoadVideo": {"input": {}, "python_module": "custom_nodes.ComfyUI-VideoHelperSuite"},
        }
    )
    graph = {
        "1": node("VAELoader", vae_name="there.safetensors"),
        "2": node("VAELoader", vae_name="gone.safetensors"),
        "3": node("VHS_LoadVideo"),
        "4": node("Seed (rgthree)"),
    }
    everything = propose_config(Source(graph, classes))
    missing = propose_config(Source(graph, classes), only_missing=True)
    assert [len(everything.models), len(everything.packs)] == [2, 2]
    assert [model.filename for model in missing.models] == ["gone.safetensors"]
    assert [pack.url for pack in missing.packs] == ["https://github.com/rgthree/rgthree-comfy"]
