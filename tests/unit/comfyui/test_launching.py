"""How a ComfyUI is started: its command, its environment, its folders."""

from pathlib import Path
from typing import Any

import pytest

from comfyworker.comfyui.folders import Folders
from comfyworker.comfyui.launching import LaunchPlan, child_environment, plan_launch
from comfyworker.comfyui.locate import Installation
from comfyworker.settings import ComfyUISettings


def plan(tmp_path: Path, *, base: str = "ComfyUI", args: tuple[str, ...] = (), **given: Any) -> LaunchPlan:
    """Return the plan for a ComfyUI in `tmp_path`."""
    installation = Installation(
        path=tmp_path / "ComfyUI", python=Path("/python"), version=None, base_dir=tmp_path / base
    )
    chosen = {"port": 8200, "slot": 0, "gpu": None, "use_cpu": False, **given}
    return plan_launch(installation, ComfyUISettings(args=args), **chosen)


def flags(tmp_path: Path, **given: Any) -> tuple[str, ...]:
    """Return the flags behind main.py."""
    command = plan(tmp_path, **given).command
    assert command[0] == "/python"
    assert command[2] == str(tmp_path / "ComfyUI/main.py")
    return command[3:]


def test_the_plain_command(tmp_path: Path) -> None:
    """Without settings, ComfyUI is told its port, to listen on this machine only, and how much to log."""
    assert flags(tmp_path) == (
        "--disable-auto-launch", "--listen", "127.0.0.1", "--verbose", "INFO", "--port", "8200",
    )  # fmt: skip


def test_the_plan_around_the_command(tmp_path: Path) -> None:
    """The URL, the working directory and the folders belong to the command."""
    made = plan(tmp_path, base="base", port=9000)
    base = tmp_path / "base"
    assert (made.url, made.cwd, made.folders) == (
        "http://127.0.0.1:9000",
        base,
        Folders(input=base / "input", output=base / "output", temp=base / "temp", models=base / "models"),
    )


def test_a_base_directory_of_its_own(tmp_path: Path) -> None:
    """A base directory is only named where it is not ComfyUI's own folder."""
    named = ("--base-directory", str(tmp_path / "base"))
    assert named == tuple(part for part in flags(tmp_path, base="base") if part in named)
    assert "--base-directory" not in flags(tmp_path)


@pytest.mark.parametrize(
    ("use_cpu", "args", "count"), [(True, (), 1), (False, (), 0), (True, ("--cpu",), 1), (False, ("--cpu",), 1)]
)
def test_cpu_only_where_it_is_wanted(tmp_path: Path, use_cpu: bool, args: tuple[str, ...], count: int) -> None:
    """`--cpu` is there once where there is no GPU or the settings say so, else not."""
    assert flags(tmp_path, use_cpu=use_cpu, args=args).count("--cpu") == count


def test_the_port_is_ours(tmp_path: Path) -> None:
    """A port in COMFYUI_ARGS does not win: we would look for ComfyUI where it is not."""
    assert flags(tmp_path, args=("--port", "9999", "--fast"))[-2:] == ("--port", "8200")


@pytest.mark.parametrize("args", [("--listen", "0.0.0.0"), ("--listen=0.0.0.0",), ("--listen",)])
def test_listening_is_the_users(tmp_path: Path, args: tuple[str, ...]) -> None:
    """Where COMFYUI_ARGS says on which address to listen, that is the last word on it."""
    found = [part for part in flags(tmp_path, args=args) if part.startswith("--listen")]
    assert found[-1] == args[0]


def test_folders_are_made(tmp_path: Path) -> None:
    """All folders are there that ComfyUI must find at its start, a slot's own output folder included."""
    made = plan(tmp_path, base="base", slot=1)
    base = tmp_path / "base"
    assert sorted(path.name for path in base.iterdir()) == ["custom_nodes", "input", "models", "output", "user"]
    assert made.folders.output == base / "output/comfyworker-1"
    assert made.folders.output.is_dir()


def test_slots_win_over_the_users_folders(tmp_path: Path) -> None:
    """Two ComfyUIs keep apart also below an output folder that COMFYUI_ARGS names."""
    out = tmp_path / "out"
    plans = [plan(tmp_path, slot=slot, args=("--output-directory", str(out))) for slot in (0, 1)]
    assert [one.folders.output for one in plans] == [out, out / "comfyworker-1"]


def test_the_environment_of_the_child() -> None:
    """Secrets of the worker and what belongs to its own interpreter stay behind; the rest goes along."""
    environ = {
        "PATH": "/bin",
        "HF_TOKEN": "for ComfyUI's own nodes",
        "COMFY_ORG_API_KEY": "secret",
        "PYTHONPATH": "/ours",
        "PYTHONHOME": "/ours",
        "VIRTUAL_ENV": "/ours",
        "PYTHONSTARTUP": "/ours",
    }
    assert child_environment(environ, gpu=None) == {
        "PATH": "/bin",
        "HF_TOKEN": "for ComfyUI's own nodes",
        "PYTHONUNBUFFERED": "1",
    }


def test_one_gpu_is_seen() -> None:
    """A ComfyUI that shall use one GPU sees no other; else the variable stays as it is."""
    environ = {"CUDA_VISIBLE_DEVICES": "0,1"}
    assert child_environment(environ, gpu="1")["CUDA_VISIBLE_DEVICES"] == "1"
    assert child_environment(environ, gpu=None)["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_previews_only_where_they_are_wanted(tmp_path: Path) -> None:
    """ComfyUI makes none by itself; what the user's flags say of them comes behind ours, and so counts."""
    installation = Installation(path=tmp_path, python=Path("/python"), version=None, base_dir=tmp_path)
    settings = ComfyUISettings(preview_method="auto", args=("--preview-method", "taesd"))
    command = plan_launch(installation, settings, port=1, slot=0, gpu=None, use_cpu=False).command
    found = [command[index + 1] for index, part in enumerate(command) if part == "--preview-method"]
    assert found == ["auto", "taesd"]
    assert "--preview-method" not in flags(tmp_path)


def test_more_model_folders_are_named_beside_the_users(tmp_path: Path) -> None:
    """Our file comes behind the files of COMFYUI_ARGS, which stay in force, and takes no other argument along."""
    theirs = ("--extra-model-paths-config", "/one.yaml", "/two.yaml")
    found = flags(tmp_path, args=theirs, extra_paths=Path("/ours.yaml"))
    assert found[-7:] == (*theirs, "--extra-model-paths-config", "/ours.yaml", "--port", "8200")
