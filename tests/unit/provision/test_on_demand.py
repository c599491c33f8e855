"""Which models a job may have fetched, and where they go; the fetching itself is tested on a real ComfyUI."""

from pathlib import Path

import pytest

from comfyworker.comfyui.folders import Folders
from comfyworker.provision.on_demand import OnDemandModels, foreign_host
from comfyworker.provision.proposal import Missing, ProposedModel
from comfyworker.settings import load_settings

URL = "https://huggingface.co/owner/name/resolve/main/x.safetensors"


def folders(tmp_path: Path) -> Folders:
    """Return the folders of a ComfyUI."""
    return Folders(input=tmp_path, output=tmp_path, temp=tmp_path, models=tmp_path / "models")


@pytest.mark.parametrize(
    ("url", "allowed", "foreign"),
    [
        (URL, ("huggingface.co",), None),
        (URL, (), "'huggingface.co'"),
        ("hf://owner/name/x.sft", ("huggingface.co",), None),
        ("http://huggingface.co/x", ("huggingface.co",), "'http://huggingface.co'"),
        ("https://HuggingFace.co/x", ("huggingface.co",), None),
        ("https://huggingface.co.evil.com/x", ("huggingface.co",), "'huggingface.co.evil.com'"),
        ("https://huggingface.co@evil.com/x", ("huggingface.co",), "'evil.com'"),
        ("https://huggingface.co:8443/x", ("huggingface.co",), "'huggingface.co:8443'"),
        ("https://huggingface.co:8443/x", ("huggingface.co:8443",), None),
        ("https://a.example.org/x", ("*.example.org",), None),
        ("https://example.org/x", ("*.example.org",), "'example.org'"),
        ("https://notexample.org/x", ("*.example.org",), "'notexample.org'"),
        ("http://127.0.0.1:8000/x", ("http://127.0.0.1:8000",), None),
        ("https://127.0.0.1:8000/x", ("http://127.0.0.1:8000",), "'127.0.0.1:8000'"),
        ("s3://bucket/x", ("bucket",), "'s3://bucket'"),
        ("https://[::1/x", ("huggingface.co",), "what is no host"),
    ],
)
def test_hosts(url: str, allowed: tuple[str, ...], foreign: str | None) -> None:
    """An entry is a host itself, or all below one; https unless it says otherwise."""
    assert foreign_host(url, allowed) == foreign


@pytest.mark.parametrize(
    ("model", "settings", "reason"),
    [
        ({"url": None}, {}, None),
        ({}, {}, "It is not fetched from the URL that the workflow names: DOWNLOAD_MODELS is off."),
        ({"url": None}, {"DOWNLOAD_MODELS": "1"}, "It is not fetched: the workflow names no URL of it."),
        (
            {"destination": None},
            {"DOWNLOAD_MODELS": "1"},
            "It is not fetched: it is not known which folder it belongs into.",
        ),
        (
            {"filename": "x.pt"},
            {"DOWNLOAD_MODELS": "1"},
            "It is not fetched: files with .pt can hold programs (ALLOWED_MODEL_ENDINGS).",
        ),
        ({"filename": "x.pt"}, {"DOWNLOAD_MODELS": "1", "ALLOWED_MODEL_ENDINGS": ".PT, .bin"}, None),
        ({"filename": "x.SAFETENSORS"}, {"DOWNLOAD_MODELS": "1"}, None),
    ],
)  # fmt: skip
async def test_why_a_model_is_not_fetched(
    tmp_path: Path, model: dict[str, str | None], settings: dict[str, str], reason: str | None
) -> None:
    """The reason names the setting."""
    given = ProposedModel.model_validate({"filename": "x.safetensors", "destination": "loras", "url": URL, **model})
    models = OnDemandModels(load_settings({"COMFY_API_URL": "http://127.0.0.1:1", **settings}), cwd=tmp_path)
    wanted, reasons = await models.judge(Missing((given,)), folders(tmp_path))
    is_wanted = bool(settings) and reason is None
    assert (reasons.get(given.place), bool(wanted)) == (reason, is_wanted)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({}, None), ({"DOWNLOAD_MODELS": "1"}, "It is not fetched: the workflow names no URL of it.")],
    ids=["off", "on"],
)
async def test_a_model_that_is_known_to_us_is_not_therefore_fetched(
    tmp_path: Path, settings: dict[str, str], reason: str | None
) -> None:
    """Only what a workflow names by itself is; that we know where a model lies is for a person to read."""
    given = ProposedModel(filename="x.safetensors", destination="loras", url=URL, known_by="our configs")
    models = OnDemandModels(load_settings({"COMFY_API_URL": "http://127.0.0.1:1", **settings}), cwd=tmp_path)
    wanted, reasons = await models.judge(Missing((given,)), folders(tmp_path))
    assert (wanted, reasons.get(given.place)) == ((), reason)


async def test_a_file_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    """Whoever sends a job cannot exchange the models of others."""
    given = ProposedModel(filename="x.safetensors", destination="loras/a", url=URL)
    target = tmp_path / "models/loras/a/x.safetensors"
    settings = load_settings({"COMFY_API_URL": "http://127.0.0.1:1", "DOWNLOAD_MODELS": "1"})
    models = OnDemandModels(settings, cwd=tmp_path)
    (wanted,), _ = await models.judge(Missing((given,)), folders(tmp_path))
    assert wanted.target == target
    target.parent.mkdir(parents=True)
    target.write_bytes(b"mine")
    again, reasons = await models.judge(Missing((given,)), folders(tmp_path))
    assert (again, reasons) == ((), {given.place: "The file is there, and ComfyUI does not offer it."})


async def test_models_go_where_config_yml_puts_them(tmp_path: Path) -> None:
    """With a ComfyUI of our own: to MODELS_PATH, if ComfyUI looks there for that kind."""
    settings = load_settings({"MODELS_PATH": str(tmp_path / "volume"), "DOWNLOAD_MODELS": "1"})
    models = OnDemandModels(settings, cwd=tmp_path)
    given = [ProposedModel(filename="x.sft", destination=name, url=URL) for name in ("loras/a", "ipadapter")]
    wanted, _ = await models.judge(Missing(tuple(given)), folders(tmp_path))
    assert [entry.target for entry in wanted] == [
        tmp_path / "volume/loras/a/x.sft",
        tmp_path / "models/ipadapter/x.sft",
    ]
