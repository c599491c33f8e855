"""`comfyworker doctor` as its user calls it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from support.real_comfyui import Install, RealComfyUI


def call_doctor(cwd: Path, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command in `cwd` with nothing of ours in its environment but `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COMFY")}
    command = [sys.executable, "-m", "comfyworker", "doctor", *args]
    return subprocess.run(
        command, cwd=cwd, env={**kept, "COLUMNS": "200", **variables}, capture_output=True, text=True, check=False
    )


def levels(answer: str) -> dict[str, str]:
    """Return the level of each area in the JSON answer; of several about one area, the last."""
    return {finding["area"]: finding["level"] for finding in json.loads(answer)["findings"]}


def test_without_a_comfyui_it_says_how_to_get_one(tmp_path: Path) -> None:
    """Where nothing is installed, doctor is useful: exit code 1, and the command that mends it."""
    done = call_doctor(tmp_path, COMFYUI_PATH=str(tmp_path))
    assert done.returncode == 1
    assert "COMFYUI_PATH names a folder that holds no main.py" in done.stdout
    assert "→ Set it to the folder that holds ComfyUI's main.py" in done.stdout
    assert "\x1b" not in done.stdout


def test_an_installed_comfyui_has_no_problem(comfyui_install: Install, tmp_path: Path) -> None:
    """ComfyUI, Python and torch are found; what is printed on stdout with --json is one JSON object."""
    variables = {"COMFYUI_PATH": str(comfyui_install.path), "COMFYUI_PYTHON": str(comfyui_install.python)}
    done = call_doctor(tmp_path, "--json", **variables)
    found = levels(done.stdout)
    wanted = ("worker", "comfyui", "python", "torch", "settings")
    assert {area: found[area] for area in wanted} == dict.fromkeys(wanted, "ok")
    assert done.returncode == (1 if json.loads(done.stdout)["level"] == "problem" else 0)


def test_bad_settings_do_not_keep_it_from_looking(comfyui_install: Install, tmp_path: Path) -> None:
    """Every bad setting and every near miss is told, beside all the rest."""
    variables = {"COMFYUI_PATH": str(comfyui_install.path), "COMFYUI_PORT": "none", "COMFYUI_PYTHN": "x"}
    done = call_doctor(tmp_path, "--json", **variables)
    assert done.returncode == 1
    findings = json.loads(done.stdout)["findings"]
    told = [(finding["level"], finding["facts"].get("name")) for finding in findings if finding["area"] == "settings"]
    assert told == [("warning", "COMFYUI_PYTHN"), ("problem", "COMFYUI_PORT")]
    assert levels(done.stdout)["comfyui"] == "ok"


def test_a_running_comfyui_is_asked(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """With COMFY_API_URL the ComfyUI there tells its version."""
    done = call_doctor(tmp_path, "--json", COMFY_API_URL=comfyui.url)
    [finding] = [item for item in json.loads(done.stdout)["findings"] if item["area"] == "comfyui"]
    assert (done.returncode, finding["level"], finding["facts"]["url"]) == (0, "ok", comfyui.url)
    assert finding["facts"]["version"] in finding["text"]
