"""Finding ComfyUI: the order of places, its Python, its version."""

import stat
import sys
from pathlib import Path

import pytest

from comfyworker.comfyui import locate
from comfyworker.comfyui.install_record import InstallRecord, write_unfinished
from comfyworker.comfyui.locate import (
    Installation,
    Location,
    find_comfyui,
    find_python,
    has_cpu_torch,
    has_torch,
    locate_comfyui,
    read_version,
    require_comfyui,
)
from comfyworker.errors import ComfyUINotFound
from comfyworker.settings import ComfyUISettings


@pytest.fixture(autouse=True)
def _only_relative_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a ComfyUI, or a Python with torch, that the tester's machine happens to have out of the tests."""
    monkeypatch.setattr(locate, "KNOWN_PLACES", (Path("first"), Path("workspace/ComfyUI")))
    monkeypatch.setattr(locate, "_SHARED_ENVIRONMENT", Path("/nowhere/venv"))
    monkeypatch.setenv("PATH", "/nowhere")


def make_comfyui(folder: Path, *, version: str | None = "0.3.75") -> Path:
    """Make a folder that counts as a ComfyUI."""
    folder.mkdir(parents=True)
    (folder / "main.py").write_text("")
    if version:
        (folder / "comfyui_version.py").write_text(f'# made\n__version__ = "{version}"\n')
    return folder


def make_python(environment: Path, *, with_torch: bool = True) -> Path:
    """Make something that looks like an environment; its interpreter cannot import anything."""
    python = environment / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    if with_torch:
        package = environment / "lib/python3.11/site-packages/torch"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
    return python


def test_urls_come_first(tmp_path: Path) -> None:
    """COMFY_API_URL beats a folder that is named as well."""
    settings = ComfyUISettings(api_urls=("http://gpu:8188",), path=make_comfyui(tmp_path / "named"))
    assert locate_comfyui(settings, cwd=tmp_path) == Location(origin="COMFY_API_URL", urls=("http://gpu:8188",))


def test_a_named_folder_comes_before_known_places(tmp_path: Path) -> None:
    """COMFYUI_PATH beats the known places, and may be relative to the working directory."""
    make_comfyui(tmp_path / "workspace/ComfyUI")
    named = make_comfyui(tmp_path / "named")
    found = locate_comfyui(ComfyUISettings(path=Path("named")), cwd=tmp_path)
    assert found == Location(origin="COMFYUI_PATH", path=named)


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_named_folder_without_comfyui_is_an_error(tmp_path: Path, name: str) -> None:
    """COMFYUI_PATH that cannot be used is never passed over, even where a known place holds a ComfyUI."""
    make_comfyui(tmp_path / "workspace/ComfyUI")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ComfyUINotFound, match="COMFYUI_PATH names") as caught:
        locate_comfyui(ComfyUISettings(path=tmp_path / name), cwd=tmp_path)
    assert "main.py" in (caught.value.hint or "")


def test_a_named_unfinished_install_is_an_error(tmp_path: Path) -> None:
    """A folder whose install was interrupted cannot be named either."""
    folder = make_comfyui(tmp_path / "named")
    write_unfinished(folder, InstallRecord(source="package", is_cpu=True))
    with pytest.raises(ComfyUINotFound, match="not finished"):
        locate_comfyui(ComfyUISettings(path=folder), cwd=tmp_path)


def test_the_first_known_place_wins(tmp_path: Path) -> None:
    """Known places are looked at in their order."""
    make_comfyui(tmp_path / "workspace/ComfyUI")
    first = make_comfyui(tmp_path / "first")
    assert locate_comfyui(ComfyUISettings(), cwd=tmp_path) == Location(origin="known place", path=first)


def test_an_unfinished_known_place_is_passed_over(tmp_path: Path) -> None:
    """An interrupted install is never taken for a whole ComfyUI."""
    write_unfinished(make_comfyui(tmp_path / "first"), InstallRecord(source="package", is_cpu=True))
    whole = make_comfyui(tmp_path / "workspace/ComfyUI")
    assert locate_comfyui(ComfyUISettings(), cwd=tmp_path).path == whole


def test_nothing_anywhere(tmp_path: Path) -> None:
    """Without any ComfyUI nothing is found, and requiring one says how to get one."""
    assert find_comfyui(ComfyUISettings(), cwd=tmp_path) is None
    with pytest.raises(ComfyUINotFound) as caught:
        require_comfyui(ComfyUISettings(), cwd=tmp_path)
    assert "comfyworker comfyui install" in (caught.value.hint or "")


def test_an_installation_has_all_that_a_start_needs(tmp_path: Path) -> None:
    """Folder, interpreter, version and base directory are found together."""
    path = make_comfyui(tmp_path / "workspace/ComfyUI")
    python = make_python(path / ".venv")
    found = find_comfyui(ComfyUISettings(base_dir=Path("data")), cwd=tmp_path)
    assert found == Installation(path=path, python=python, version="0.3.75", base_dir=tmp_path / "data")


def test_the_base_directory_is_the_folder_itself(tmp_path: Path) -> None:
    """Without COMFYUI_BASE_DIR models and outputs lie in ComfyUI's own folder."""
    path = make_comfyui(tmp_path / "workspace/ComfyUI")
    make_python(path / "venv")
    assert require_comfyui(ComfyUISettings(), cwd=tmp_path).base_dir == path


def test_the_command_runs_main_through_the_launcher(tmp_path: Path) -> None:
    """ComfyUI's interpreter runs our launcher, which is given main.py and its arguments."""
    installation = Installation(path=tmp_path, python=Path("/env/bin/python"), version=None, base_dir=tmp_path)
    launcher = str(Path(locate.__file__).with_name("_launch.py"))
    assert installation.command(["--cpu"]) == ["/env/bin/python", launcher, str(tmp_path / "main.py"), "--cpu"]


def test_no_python_is_an_error(tmp_path: Path) -> None:
    """A ComfyUI without an interpreter that has torch is named as such, not passed over."""
    make_comfyui(tmp_path / "workspace/ComfyUI")
    with pytest.raises(ComfyUINotFound, match="no Python with torch"):
        find_comfyui(ComfyUISettings(), cwd=tmp_path)


def test_a_named_python_comes_first(tmp_path: Path) -> None:
    """COMFYUI_PYTHON beats the environment in the folder, and its link is not resolved."""
    path = make_comfyui(tmp_path / "ComfyUI")
    make_python(path / ".venv")
    link = tmp_path / "linked"
    link.symlink_to(make_python(tmp_path / "other"))
    assert find_python(path, ComfyUISettings(python=link), cwd=tmp_path) == link


def test_a_named_python_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """COMFYUI_PYTHON is never passed over."""
    path = make_comfyui(tmp_path / "ComfyUI")
    make_python(path / ".venv")
    with pytest.raises(ComfyUINotFound, match="COMFYUI_PYTHON"):
        find_python(path, ComfyUISettings(python=Path("bin/none")), cwd=tmp_path)


def test_the_environment_in_the_folder_beats_the_one_beside_it(tmp_path: Path) -> None:
    """An environment in ComfyUI's folder is its own."""
    path = make_comfyui(tmp_path / "ComfyUI")
    make_python(tmp_path / ".venv")
    own = make_python(path / "venv")
    assert find_python(path, ComfyUISettings(), cwd=tmp_path) == own


def test_an_environment_beside_counts_only_with_torch(tmp_path: Path) -> None:
    """The environment beside the folder is often the worker's own, which has no torch."""
    path = make_comfyui(tmp_path / "ComfyUI")
    make_python(tmp_path / ".venv", with_torch=False)
    second = make_python(tmp_path / "venv")
    assert find_python(path, ComfyUISettings(), cwd=tmp_path) == second


def test_a_python_without_torch_is_recognised() -> None:
    """The worker's own interpreter has no torch, and is asked without importing anything."""
    assert has_torch(Path(sys.executable)) is False


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({"comfyui_version.py": "__version__ = '0.4.0'\n", "pyproject.toml": '[project]\nversion = "9"\n'}, "0.4.0"),
        ({"comfyui_version.py": "raise SystemExit\n", "pyproject.toml": '[project]\nversion = "0.3.1"\n'}, "0.3.1"),
        ({"pyproject.toml": "not toml ["}, None),
        ({"pyproject.toml": "[tool]\n"}, None),
        ({}, None),
    ],
)
def test_the_version_is_read_as_text(tmp_path: Path, files: dict[str, str], version: str | None) -> None:
    """The version module comes first, then the project file; nothing of them is run."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert read_version(tmp_path) == version


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n", True),
        ("__version__ = '2.13.0'\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", False),
        ("__version__ = '2.13.0'\ncuda: Optional[str] = None\nhip: Optional[str] = '7.0'\n", False),
        ("__version__ = '3.0'\n", False),
    ],
    ids=["cpu", "cuda", "rocm", "unknown"],
)
def test_a_torch_for_cpu_is_known_by_its_version_file(tmp_path: Path, version: str, expected: bool) -> None:
    """Its text says which GPUs it was built for; where it does not say, it is not called a torch for CPU."""
    module = tmp_path / "lib/python3.11/site-packages/torch/version.py"
    module.parent.mkdir(parents=True)
    module.write_text(version, encoding="utf-8")
    assert has_cpu_torch(tmp_path / "bin/python") is expected
