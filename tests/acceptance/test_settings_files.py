"""Settings from `.secrets` and `.env` in the working directory, through the command."""

from pathlib import Path

from support.command import call, environment

SECRET = "hf_very-secret"


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file that only its owner may read, or another."""
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def test_settings_come_from_files_and_secrets_stay_masked(tmp_path: Path) -> None:
    """`comfyworker settings` tells which file a value is from; nobody is warned of what only its owner may read."""
    write(tmp_path / ".secrets", f"export HF_TOKEN='{SECRET}'\nR2_ACCESS_KEY_ID={SECRET}\n")
    write(tmp_path / ".env", "JOB_TIMEOUT_S=7\nCOMFYUI_PORT=9001 # mine\n", 0o644)
    environ = environment(JOB_TIMEOUT_S="8")

    done = call("settings", "--json", environ=environ, cwd=tmp_path)
    found = done.json()
    assert (done.code, done.err) == (0, "")
    assert found["HF_TOKEN"] == {"value": "********", "is_set": True, "from": ".secrets"}
    assert found["R2_ACCESS_KEY_ID"]["from"] == ".secrets"
    assert found["COMFYUI_PORT"] == {"value": "9001", "is_set": True, "from": ".env"}
    assert found["JOB_TIMEOUT_S"] == {"value": "8.0", "is_set": True, "from": "environment"}
    assert found["COMFYUI_INSTANCES"]["from"] == "default"

    table = call("settings", environ=environ, cwd=tmp_path)
    assert ".secrets" in table.out
    assert SECRET not in done.out + table.out + table.err


def test_secrets_that_others_can_read_bring_one_warning(tmp_path: Path) -> None:
    """It names the file and what to do, and the command goes on; `doctor` tells it too."""
    write(tmp_path / ".secrets", f"HF_TOKEN={SECRET}\nCIVITAI_TOKEN={SECRET}\n", 0o644)
    done = call("settings", "--json", environ=environment(), cwd=tmp_path)
    assert done.code == 0
    [line] = done.err.splitlines()
    assert "settings.file_exposed" in line
    assert ".secrets" in line
    assert "chmod 600" in line
    of_doctor = call("doctor", "--json", environ=environment(), cwd=tmp_path).json()["findings"]
    [finding] = [each for each in of_doctor if each["area"] == "settings"]
    assert (finding["level"], finding["facts"]) == ("warning", {"file": ".secrets"})


def test_a_line_that_is_none_brings_one_warning(tmp_path: Path) -> None:
    """File and line are named, what stands there is not, and the command goes on; `doctor` tells it too."""
    write(tmp_path / ".secrets", f"# mine\nHF_TOKEN {SECRET}\nCOMFYUI_PORT=9001\n")
    done = call("settings", "--json", environ=environment(), cwd=tmp_path)
    assert (done.code, done.json()["COMFYUI_PORT"]["value"]) == (0, "9001")
    [line] = done.err.splitlines()
    assert "settings.file_doubted" in line
    assert "line 2 left out: no NAME=value" in line
    of_doctor = call("doctor", "--json", environ=environment(), cwd=tmp_path)
    [finding] = [each for each in of_doctor.json()["findings"] if each["area"] == "settings"]
    assert (finding["level"], finding["text"]) == ("warning", ".secrets: line 2 left out: no NAME=value in UTF-8.")
    assert SECRET not in done.out + done.err + of_doctor.out + of_doctor.err
