"""Which file a model's name means."""

from pathlib import Path

import pytest

from comfyworker.comfyui.locate import Installation
from comfyworker.prefetch.order import order_of
from support.model_files import found, order_on, write_model


def installation(tmp_path: Path) -> Installation:
    """Return a ComfyUI in `tmp_path`."""
    return Installation(path=tmp_path / "own", python=Path("/python"), version=None, base_dir=tmp_path / "own")


def test_own_folders_come_first_then_a_users_then_ours(tmp_path: Path) -> None:
    """The order of ComfyUI's own reader: its folders, extra_model_paths.yaml, COMFYUI_ARGS, what the worker adds."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own/extra_model_paths.yaml").write_text(
        "theirs:\n  base_path: /theirs\n  loras: |\n    loras\n    more\n  unet: unet\n"
    )
    (tmp_path / "own/named.yaml").write_text("named:\n  is_default: true\n  loras: first\n")
    order = order_of(
        installation(tmp_path),
        ("--fp16-vae", "--extra-model-paths-config", "named.yaml", "--cpu"),
        {"loras": (Path("/volume/loras"), Path("/theirs/more")), "clip": (Path("/volume/clip"),)},
        [Path("/volume")],
    )
    own = tmp_path / "own/models"
    assert order.folders["loras"] == (
        tmp_path / "own/first",
        own / "loras",
        Path("/theirs/loras"),
        Path("/theirs/more"),
        Path("/volume/loras"),
    )
    assert order.folders["diffusion_models"] == (own / "unet", own / "diffusion_models", Path("/theirs/unet"))
    assert order.folders["text_encoders"] == (own / "text_encoders", own / "clip", Path("/volume/clip"))
    assert order.is_on_volume(Path("/volume/loras/x"))
    assert not order.is_on_volume(own / "loras/x")


@pytest.mark.parametrize("text", ["\t- :", "[1, 2]", "a: 1", ""], ids=["no yaml", "a list", "no section", "empty"])
def test_a_users_file_that_says_nothing(tmp_path: Path, text: str) -> None:
    """What ComfyUI cannot read names no folder."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own/extra_model_paths.yaml").write_text(text)
    order = order_of(installation(tmp_path), (), {}, [])
    assert order.folders["loras"] == (tmp_path / "own/models/loras",)


def test_the_first_file_of_a_name_is_meant(tmp_path: Path) -> None:
    """As in ComfyUI, in subfolders too; a folder of that name is none."""
    order = order_on(tmp_path)
    (tmp_path / "text_encoders/wan/t5.safetensors").mkdir(parents=True)
    second = write_model(tmp_path / "clip/wan/t5.safetensors", b"12345")
    file = found(order, "wan/t5.safetensors", "text_encoders")
    assert (file.path, file.size_bytes, file.name) == (second, 5, "wan/t5.safetensors")
    assert found(order, "wan\\t5.safetensors", "clip") == file
    assert order.find("loras", "wan/t5.safetensors") is None
    assert order.find_anywhere("wan/t5.safetensors") == file


@pytest.mark.parametrize("name", ["../secret.pt", "/secret.pt", "../../secret.pt", "x/../../secret.pt", "\0.pt", ""])
def test_no_name_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    """ComfyUI cuts off what would."""
    write_model(tmp_path / "secret.pt")
    (tmp_path / "checkpoints").mkdir()
    assert order_on(tmp_path).find("checkpoints", name) is None


def test_equal_orders_have_equal_digests(tmp_path: Path) -> None:
    """Workers that look into the same folders share their copies, and no others do."""
    assert order_on(tmp_path).digest == order_on(tmp_path).digest
    assert order_on(tmp_path).digest != order_on(tmp_path / "other").digest
