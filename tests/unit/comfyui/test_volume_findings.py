"""What doctor says of volumes."""

from pathlib import Path

import pytest

from comfyworker.comfyui import gpus, model_places
from comfyworker.comfyui.diagnosis import diagnose
from comfyworker.comfyui.finding import Finding, Level
from comfyworker.comfyui.model_places import ModelPlace, ModelTree, Origin
from comfyworker.comfyui.model_survey import PlaceSurvey, survey_place
from comfyworker.comfyui.volume_findings import volume_findings
from comfyworker.settings import ComfyUISettings, VolumeSettings


def write(path: Path, size_bytes: int = 3_000_000) -> None:
    """Write a file of that size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0" * size_bytes)


def place(root: Path, *folders: str, problem: str | None = None) -> ModelPlace:
    """Return a network volume with these folders in `models`."""
    trees = () if problem else (ModelTree(path=root / "models", folders=folders, takes_all=True),)
    return ModelPlace(root=root, origin=Origin.NETWORK_VOLUME, is_mounted=True, trees=trees, problem=problem)


def brief(findings: list[Finding]) -> list[tuple[Level, str]]:
    """Return level and text of each finding."""
    return [(finding.level, finding.text) for finding in findings]


def test_models_are_told_by_kind(tmp_path: Path) -> None:
    """Folders of one kind count together; for programs each is there with its files."""
    for name in ("unet/a.safetensors", "diffusion_models/b.safetensors", "vae/c.safetensors"):
        write(tmp_path / "models" / name)
    found = volume_findings(survey_place(place(tmp_path, "diffusion_models", "loras", "unet", "vae")))
    where = f"{tmp_path} (network volume, mounted)"
    text = f"3 model files, 9.0 MB, on {where}: diffusion_models 2 (6.0 MB), vae 1 (3.0 MB)."
    assert brief(found) == [(Level.OK, text)]
    assert found[0].facts["models_in"] == [str(tmp_path / "models")]


def test_an_empty_volume_says_where_models_belong(tmp_path: Path) -> None:
    """A volume without models is a warning with the folder to put them into."""
    [finding] = volume_findings(survey_place(place(tmp_path)))
    assert (finding.level, str(tmp_path / "models/checkpoints") in (finding.advice or "")) == (Level.WARNING, True)


def test_no_volume_is_nothing_to_say_and_an_empty_folder_is(tmp_path: Path) -> None:
    """Whoever has no network volume hears nothing of it; a folder where one should be mounted is told."""
    nowhere = place(tmp_path / "none", problem="it is not there")
    empty = place(tmp_path, problem="it is an empty folder: no volume is mounted there")
    assert volume_findings(PlaceSurvey(place=nowhere)) == []
    [finding] = volume_findings(PlaceSurvey(place=empty))
    assert (
        finding.text == f"{tmp_path} (network volume) is not used: it is an empty folder: no volume is mounted there."
    )
    assert "Choose a network volume" in (finding.advice or "")


def test_doubts_are_told_up_to_a_number(tmp_path: Path) -> None:
    """Ten are named, the rest is counted."""
    for number in range(13):
        write(tmp_path / f"models/loras/{number:02}.zip", 5)
    found = volume_findings(survey_place(place(tmp_path, "loras")))
    assert found[1].text == f"{tmp_path}/models/loras/00.zip is packed."
    assert len(found) == 12
    assert found[-1].text.startswith("3 more files or folders")


async def test_doctor_tells_of_models_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MODELS_PATH is looked through, and ComfyUI's own empty folder is then no cause for a warning."""
    monkeypatch.setattr(gpus, "_DEVICES", Path("/nowhere"))
    monkeypatch.setattr(model_places, "KNOWN_VOLUMES", ())
    write(tmp_path / "more/loras/a.safetensors")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/main.py").touch()
    settings = ComfyUISettings(path=tmp_path / "own", python=Path("/bin/true"))
    findings = await diagnose(settings, VolumeSettings(models_path=Path("more")), cwd=tmp_path)
    texts = {finding.area: finding.text for finding in findings}
    assert texts["volume"] == f"1 model file, 3.0 MB, on {tmp_path}/more (MODELS_PATH): loras 1 (3.0 MB)."
    assert "those on volumes are used" in texts["models"]
    findings = await diagnose(settings, VolumeSettings(models_path=Path("nowhere")), cwd=tmp_path)
    [finding] = [finding for finding in findings if finding.area == "volume"]
    assert finding.text == f"{tmp_path}/nowhere (MODELS_PATH) is not used: it is not there."
