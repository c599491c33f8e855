"""What the commands that run something begin with: settings from the environment and from files."""

import os
from pathlib import Path

import pytest

from comfyworker.cli.running import prepare
from comfyworker.comfyui.launching import child_environment
from comfyworker.settings import process_environment


@pytest.mark.parametrize("is_in_file", [False, True])
def test_comfyui_gets_of_a_file_what_it_gets_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_in_file: bool
) -> None:
    """Custom nodes find Hugging Face's token either way, and no other secret."""
    given = {"HF_TOKEN": "hf", "CIVITAI_TOKEN": "civitai", "R2_SECRET_ACCESS_KEY": "r2", "HF_HUB_OFFLINE": "1"}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    if is_in_file:
        (tmp_path / ".secrets").write_text("".join(f"{name}={value}\n" for name, value in given.items()))
        (tmp_path / ".secrets").chmod(0o600)
    else:
        os.environ.update(given)

    assert prepare().provision.civitai_token is not None
    child = child_environment(process_environment(), gpu=None)
    assert {name: child[name] for name in given if name in child} == {"HF_TOKEN": "hf", "HF_HUB_OFFLINE": "1"}
