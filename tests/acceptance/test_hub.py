"""The test that RunPod's Hub runs on a release, without RunPod."""

from pathlib import Path

import pytest

from support.command import call, environment
from support.real_comfyui import RealComfyUI
from support.source import REPOSITORY


@pytest.mark.parametrize("file", [".runpod/tests.json", "test_input.json"])
def test_it_makes_a_picture(comfyui: RealComfyUI, tmp_path: Path, file: str) -> None:
    """Every job of the file ends COMPLETED with one picture, on a ComfyUI that has no model for it."""
    done = call("test", "--input", str(REPOSITORY / file), environ=environment(comfyui), cwd=tmp_path)
    assert done.code == 0, done.err
    answer = done.json()
    assert answer["status"] == "COMPLETED"
    assert [image["type"] for image in answer["output"]["images"]] == ["base64"]
