"""The kinds of models, and the names of their folders."""

import pytest

from comfyworker.comfyui.model_kinds import CORE_KINDS, OTHER_KINDS, core_folders, kind_of_folder, nearest_folder


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("loras", "loras"),
        ("clip", "text_encoders"),
        ("unet", "diffusion_models"),
        ("t2i_adapter", "controlnet"),
        ("ipadapter-flux", "ipadapter-flux"),
        ("outputs", None),
    ],
)
def test_a_folder_has_a_kind(folder: str, kind: str | None) -> None:
    """Legacy names lead to today's kinds, packs' folders are kinds of their own, and other folders are none."""
    assert kind_of_folder(folder) == kind


def test_no_folder_holds_two_kinds() -> None:
    """Each folder's name stands for one kind, and no pack's is one of ComfyUI's."""
    assert len(set(core_folders())) == len(core_folders()) == sum(len(folders) for folders in CORE_KINDS.values())
    assert not OTHER_KINDS & {*core_folders(), *CORE_KINDS}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lora", "loras"),
        ("Checkpoints", "checkpoints"),
        ("upscale-models", "upscale_models"),
        ("model", "models"),
        ("config", None),
        ("loras", None),
        ("venv", None),
    ],
)
def test_a_near_miss_is_understood(name: str, meant: str | None) -> None:
    """What nearly bears a kind's name is told which; common words, right names and other names are not."""
    assert nearest_folder(name, also=("models",)) == meant
