"""What doctor finds, without a ComfyUI, a GPU or a network."""

from pathlib import Path

import pytest

from comfyworker.comfyui import gpus, locate, model_places
from comfyworker.comfyui.diagnosis import diagnose
from comfyworker.comfyui.finding import Finding, Level, format_bytes, worst_level
from comfyworker.comfyui.gpus import Gpu
from comfyworker.comfyui.install_record import InstallRecord, write_unfinished
from comfyworker.comfyui.machine_findings import gpu_finding
from comfyworker.comfyui.torch_probe import TorchFacts
from comfyworker.settings import ComfyUISettings

H200 = Gpu(index=0, name="NVIDIA H200", driver="570.1", memory_bytes=150_000_000_000, used_bytes=0)


@pytest.fixture(autouse=True)
def _bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide what the tester's machine has: GPUs, environments, volumes, and ComfyUIs in absolute places."""
    monkeypatch.setattr(gpus, "_DEVICES", Path("/nowhere"))
    monkeypatch.setattr(locate, "_SHARED_ENVIRONMENT", Path("/nowhere"))
    monkeypatch.setattr(model_places, "KNOWN_VOLUMES", ())
    monkeypatch.setenv("PATH", "/nowhere")


async def find(settings: ComfyUISettings, cwd: Path, area: str) -> list[Finding]:
    """Return the findings about one area."""
    return [finding for finding in await diagnose(settings, cwd=cwd) if finding.area == area]


async def test_nothing_installed_is_one_problem_with_advice(tmp_path: Path) -> None:
    """Where there is nothing, doctor says how to get a ComfyUI, and still looks at GPU and disk."""
    findings = await diagnose(ComfyUISettings(), cwd=tmp_path)
    assert [finding.area for finding in findings] == ["comfyui", "gpu", "disk"]
    assert findings[0].level is Level.PROBLEM
    assert "comfyworker comfyui install" in (findings[0].advice or "")


async def test_an_unfinished_install_is_told(tmp_path: Path) -> None:
    """An interrupted install is named with the command that goes on with it."""
    folder = tmp_path / "workspace/ComfyUI"
    folder.mkdir(parents=True)
    write_unfinished(folder, InstallRecord(source="package", is_cpu=True))
    [finding] = await find(ComfyUISettings(), tmp_path, "comfyui")
    assert finding.level is Level.PROBLEM
    assert "--path workspace/ComfyUI" in (finding.advice or "")


async def test_a_wrong_setting_is_told_as_it_is(tmp_path: Path) -> None:
    """COMFYUI_PATH that cannot be used is the problem, not that there is no ComfyUI."""
    [finding] = await find(ComfyUISettings(path=tmp_path), tmp_path, "comfyui")
    assert (finding.level, finding.text) == (Level.PROBLEM, "COMFYUI_PATH names a folder that holds no main.py.")


async def test_a_comfyui_without_python_is_a_problem(tmp_path: Path) -> None:
    """The folder is found, and what is missing is its interpreter."""
    (tmp_path / "main.py").touch()
    findings = await diagnose(ComfyUISettings(path=tmp_path), cwd=tmp_path)
    levels = [(finding.area, finding.level) for finding in findings]
    assert levels == [
        ("comfyui", Level.OK),
        ("python", Level.PROBLEM),
        ("gpu", Level.WARNING),
        ("disk", findings[3].level),
        ("models", Level.WARNING),
    ]


async def test_a_url_that_does_not_answer_is_a_problem_without_its_password(tmp_path: Path) -> None:
    """Each URL is asked, and what is shown of it holds no secret."""
    settings = ComfyUISettings(api_urls=("http://user:secret@127.0.0.1:1",), path=tmp_path)
    first, second = await find(settings, tmp_path, "comfyui")
    assert first.text.startswith("COMFYUI_PATH is set too")
    assert second.text == "http://127.0.0.1:1 (COMFY_API_URL) does not answer as a ComfyUI: Connection refused."
    assert "secret" not in second.model_dump_json()


@pytest.mark.parametrize(
    ("found", "facts", "is_needed", "level", "words"),
    [
        ((), None, True, Level.WARNING, "runs on CPU"),
        ((), None, False, Level.OK, "runs elsewhere"),
        ((H200,), None, True, Level.OK, "NVIDIA H200 (150.0 GB, driver 570.1)"),
        ((H200,), TorchFacts(python="3", torch="2+cpu"), True, Level.PROBLEM, "torch cannot use it"),
        ((H200,), TorchFacts(python="3", torch="2", cuda="13.0"), True, Level.PROBLEM, "torch cannot use it"),
        ((H200,), TorchFacts(python="3", torch="2", cuda="13.0", can_use_gpu=True), True, Level.OK, "H200"),
        ((H200,), TorchFacts(python="3", error="no torch"), True, Level.OK, "H200"),
    ],
)
def test_a_gpu_is_judged_with_torch(
    found: tuple[Gpu, ...], facts: TorchFacts | None, is_needed: bool, level: Level, words: str
) -> None:
    """A GPU that torch cannot use is a problem; none at all is one only to be slow."""
    finding = gpu_finding(found, facts, is_needed=is_needed)
    assert finding.level is level
    assert words in finding.text
    assert (finding.advice is None) == (level is Level.OK)


def test_a_torch_without_gpu_is_told_from_an_old_driver() -> None:
    """The advice says which of the two it is."""
    wrong_build = gpu_finding([H200], TorchFacts(python="3", torch="2+cpu"))
    old_driver = gpu_finding([H200], TorchFacts(python="3", torch="2", cuda="13.0"))
    assert "--no-cpu" in (wrong_build.advice or "")
    assert "driver" in (old_driver.advice or "")


@pytest.mark.parametrize(
    ("levels", "worst"),
    [
        ((), Level.OK),
        ((Level.OK, Level.WARNING), Level.WARNING),
        ((Level.PROBLEM, Level.WARNING, Level.OK), Level.PROBLEM),
    ],
)
def test_the_gravest_level_counts(levels: tuple[Level, ...], worst: Level) -> None:
    """A problem outweighs a warning, a warning what is well."""
    assert worst_level([Finding(area="x", level=level, text="x") for level in levels]) is worst


@pytest.mark.parametrize(("size_bytes", "text"), [(0, "0.0 MB"), (257_000_000, "0.3 GB"), (5_500_000, "5.5 MB")])
def test_sizes_are_told_for_people(size_bytes: int, text: str) -> None:
    """Small sizes are told in megabytes, others in gigabytes."""
    assert format_bytes(size_bytes) == text
