"""Settings from `.secrets` and `.env`: what a line means, which file wins, and what is never told."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from comfyworker.errors import InvalidSettings
from comfyworker.settings import (
    SettingFile,
    exposed_files,
    load_settings,
    near_misses,
    read_setting_files,
    values_of_files,
)

SECRET = "hf_very-secret"


def read(folder: Path, text: str, name: str = ".secrets") -> SettingFile:
    """Write one file and return it as it is read."""
    (folder / name).write_text(text, encoding="utf-8")
    [file] = read_setting_files(folder, {})
    return file


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("HF_TOKEN=abc", "abc"),
        ("  export HF_TOKEN = abc  ", "abc"),
        ("HF_TOKEN=abc # mine", "abc"),
        ("HF_TOKEN=abc#def", "abc#def"),
        ("HF_TOKEN='a b # c'", "a b # c"),
        ("HF_TOKEN='a\\b' # mine", "a\\b"),
        ('HF_TOKEN="a \\"b\\" \\\\ \\n"', 'a "b" \\ \\n'),
        ("HF_TOKEN=a=b==", "a=b=="),
        ("HF_TOKEN=it's", "it's"),
        ("HF_TOKEN=$HOME/${USER}`id`", "$HOME/${USER}`id`"),
        ("HF_TOKEN=", ""),
        ("HF_TOKEN= # none", ""),
        ("HF_TOKEN=a\r", "a"),
        ("HF_TOKEN=a\nHF_TOKEN=b", "b"),
    ],
)
def test_a_line_means_what_a_shell_takes_it_for(tmp_path: Path, line: str, value: str) -> None:
    """Quotes, comments and `export` are understood; nothing is expanded; the last line of a name counts."""
    assert read(tmp_path, f"# comment\n\n{line}\n").values == {"HF_TOKEN": value}


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    """Some editors put one there."""
    assert read(tmp_path, "\ufeffHF_TOKEN=a").values == {"HF_TOKEN": "a"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("HF_TOKEN='a\nb'", "a\nb"),
        ('export HF_TOKEN="-----BEGIN\n  ab \\"c\\"\n-----END" # mine', '-----BEGIN\n  ab "c"\n-----END'),
        ('HF_TOKEN="\n\n"', "\n\n"),
    ],
)
def test_a_quoted_value_may_have_several_lines(tmp_path: Path, text: str, value: str) -> None:
    """As keys have; the lines behind it count as ever."""
    file = read(tmp_path, f"{text}\nLOG_LEVEL=info\n")
    assert (file.values, file.doubts) == ({"HF_TOKEN": value, "LOG_LEVEL": "info"}, ())


@pytest.mark.parametrize(
    "line",
    [
        SECRET,
        f"={SECRET}",
        f"1={SECRET}",
        f"a name={SECRET}",
        f"NAME: {SECRET}",
        f"'{SECRET}",
        f"HF_TOKEN='{SECRET}",
        f'HF_TOKEN="{SECRET}',
        f'HF_TOKEN="{SECRET}" {SECRET}',
        f"source {SECRET}",
    ],
)
def test_a_line_that_is_none_is_told_without_what_it_says(tmp_path: Path, line: str) -> None:
    """The file may be somebody else's, so the rest of it counts; what the line says may be a secret."""
    file = read(tmp_path, f"# mine\nLOG_LEVEL=info\n{line}\nCOMFYUI_PORT=9001\n")
    assert file.values == {"LOG_LEVEL": "info", "COMFYUI_PORT": "9001"}
    assert file.doubts == ("line 3 left out: no NAME=value in UTF-8",)
    assert SECRET not in repr(file)


def test_a_name_alone_is_the_environments(tmp_path: Path) -> None:
    """`docker run --env-file` takes it from there, as the settings do anyway."""
    file = read(tmp_path, "HF_TOKEN\nexport PATH\nLOG_LEVEL=info\n")
    assert (file.values, file.doubts) == ({"LOG_LEVEL": "info"}, ())


def test_every_odd_line_is_told_at_once(tmp_path: Path) -> None:
    """Also one that is no text; what there is beside it counts."""
    (tmp_path / ".secrets").write_bytes(b"HF_TOKEN=\xff\nLOG_LEVEL=info\n?\n")
    [file] = read_setting_files(tmp_path, {})
    assert file.doubts == ("lines 1, 3 left out: no NAME=value in UTF-8",)
    assert file.values == {"LOG_LEVEL": "info"}


def test_a_folder_of_that_name_is_left_alone(tmp_path: Path) -> None:
    """Some keep a virtual environment in `.env`."""
    (tmp_path / ".env").mkdir()
    assert read_setting_files(tmp_path, {}) == ()


def test_the_environment_beats_secrets_and_these_beat_env_and_that_the_default(tmp_path: Path) -> None:
    """A value comes from the first source that has one."""
    (tmp_path / ".secrets").write_text("JOB_TIMEOUT_S=2\nCOMFYUI_PORT=2\n", encoding="utf-8")
    (tmp_path / ".env").write_text("JOB_TIMEOUT_S=3\nCOMFYUI_PORT=3\nCOMFYUI_QUEUE_DEPTH=3\n", encoding="utf-8")
    environ = {"JOB_TIMEOUT_S": "1"}
    files = read_setting_files(tmp_path, environ)
    settings = load_settings(environ, files)
    assert (settings.job.timeout_s, settings.comfyui.port, settings.comfyui.queue_depth) == (1, 2, 3)
    assert settings.comfyui.instances == load_settings({}).comfyui.instances
    assert {name: file.label for name, (_, file) in values_of_files(files, environ).items()} == {
        "COMFYUI_PORT": ".secrets",
        "COMFYUI_QUEUE_DEPTH": ".env",
    }


def test_another_name_of_a_setting_wins_too(tmp_path: Path) -> None:
    """What one source calls HF_TOKEN and another HUGGINGFACE_TOKEN is no contradiction; within a file it is."""
    file = read(tmp_path, "HUGGINGFACE_TOKEN=of-file\n")
    assert load_settings({"HF_TOKEN": "of-environment"}, [file]).provision.hf_token == SecretStr("of-environment")
    assert load_settings({"HF_TOKEN": " "}, [file]).provision.hf_token == SecretStr("of-file")
    with pytest.raises(InvalidSettings, match="HF_TOKEN and HF_API_TOKEN mean the same setting"):
        load_settings({}, [read(tmp_path, "HF_TOKEN=a\nHF_API_TOKEN=b\n")])


def test_files_beside_the_config_are_read_after_those_here(tmp_path: Path) -> None:
    """CONFIG_PATH leads to them, from the environment as from a file; every .secrets comes before every .env."""
    (tmp_path / "configs").mkdir()
    for name, value in {".secrets": "1", ".env": "2", "configs/.secrets": "3", "configs/.env": "4"}.items():
        (tmp_path / name).write_text(f"CONFIG_PATH=configs/config.yml\nCOMFYUI_PORT={value}\n", encoding="utf-8")
    files = read_setting_files(tmp_path, {})
    assert [file.values["COMFYUI_PORT"] for file in files] == ["1", "3", "2", "4"]
    assert files[1].label == ".secrets beside CONFIG_PATH"
    assert len(read_setting_files(tmp_path, {"CONFIG_PATH": str(tmp_path / "config.yml")})) == 2


def test_a_given_environment_reads_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only who asks for files gets them."""
    read(tmp_path, "COMFYUI_PORT=9001\n")
    monkeypatch.chdir(tmp_path)
    assert load_settings({}) == load_settings()


def test_unknown_names_are_ignored_and_near_misses_told(tmp_path: Path) -> None:
    """The file may be others' too."""
    file = read(tmp_path, "RUNPOD_SOMETHING=1\nCOMFYUI_PORTS=1\n")
    assert load_settings({}, [file]) == load_settings({})
    assert near_misses(file.values) == (("COMFYUI_PORTS", "COMFYUI_PORT"),)


def test_a_file_s_value_is_in_no_error_and_no_repr(tmp_path: Path) -> None:
    """A key in the wrong line stays where it is; what would be right is still told."""
    file = read(tmp_path, f"COMFYUI_PORT={SECRET}\nCOMFY_API_URL=ftp://{SECRET}\nLOG_FORMAT={SECRET}\n")
    with pytest.raises(InvalidSettings) as caught:
        load_settings({}, [file])
    assert SECRET not in f"{caught.value!r} {caught.value} {caught.value.problems} {file!r}"
    assert "'…' is no http or https URL (in .secrets)" in str(caught.value)
    assert "'json'" in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "text", "is_exposed"),
    [
        (0o600, "HF_TOKEN=a", False),
        (0o640, "HF_TOKEN=a", True),
        (0o602, "GH_TOKEN=a", True),
        (0o644, "LOG_LEVEL=info", False),
        (0o644, "HF_TOKEN=", False),
    ],
)
def test_a_secret_that_others_can_read_is_found(tmp_path: Path, mode: int, text: str, *, is_exposed: bool) -> None:
    """Only a file that holds a secret has to be the owner's alone."""
    read(tmp_path, text)
    (tmp_path / ".secrets").chmod(mode)
    files = read_setting_files(tmp_path, {})
    assert exposed_files(files) == (files if is_exposed else ())
