"""Settings are read once, wholly, and say what is wrong with them."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from comfyworker.errors import InvalidSettings
from comfyworker.settings import Settings, list_settings, load_settings, near_misses, process_environment

SECRET = "sk-very-secret"


def test_an_empty_environment_gives_the_defaults() -> None:
    """A worker runs without any variable set."""
    assert load_settings({}) == Settings()


def test_values_arrive_in_their_types() -> None:
    """Text from the environment becomes URLs, paths, flags, numbers and lists."""
    settings = load_settings(
        {
            "COMFY_API_URL": "gpu-1:8188, https://gpu-2/comfy/",
            "COMFYUI_PATH": "/comfyui",
            "COMFYUI_ARGS": "--lowvram --output-directory '/a b'",
            "COMFYUI_INSTANCES": "2",
            "COMFY_LOG_LEVEL": "debug",
            "KEEP_OUTPUTS": "true",
            "JOB_TIMEOUT_S": "90",
            "LOG_FORMAT": "JSON",
        }
    )
    assert settings.comfyui.api_urls == ("http://gpu-1:8188", "https://gpu-2/comfy")
    assert settings.comfyui.path == Path("/comfyui")
    assert settings.comfyui.args == ("--lowvram", "--output-directory", "/a b")
    assert settings.comfyui.instances == 2
    assert settings.comfyui.log_level == "DEBUG"
    assert settings.delivery.keep_outputs is True
    assert settings.job.timeout_s == 90.0
    assert settings.log.format == "json"


def test_all_bad_values_are_told_at_once() -> None:
    """One start shows every variable that has to be corrected."""
    with pytest.raises(InvalidSettings) as caught:
        load_settings({"COMFYUI_PORT": "99999", "JOB_TIMEOUT_S": "soon", "LOG_LEVEL": "loud", "COMFYUI_INSTANCES": "0"})

    assert {problem.path for problem in caught.value.problems} == {
        "COMFYUI_PORT",
        "JOB_TIMEOUT_S",
        "LOG_LEVEL",
        "COMFYUI_INSTANCES",
    }
    assert "JOB_TIMEOUT_S: Input should be a valid number, unable to parse string as a number (it is 'soon')" in str(
        caught.value
    )


def test_a_url_of_another_kind_is_refused() -> None:
    """Only http and https lead to a ComfyUI."""
    with pytest.raises(InvalidSettings, match="'ftp://host' is no http or https URL"):
        load_settings({"COMFY_API_URL": "ftp://host"})


def test_a_secret_shows_neither_in_repr_nor_in_dumps() -> None:
    """Settings can be logged and printed without giving a key away."""
    settings = load_settings({"COMFY_ORG_API_KEY": SECRET})

    assert settings.job.comfy_org_api_key == SecretStr(SECRET)
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert SECRET not in settings.model_dump_json()


def test_settings_cannot_be_changed() -> None:
    """What a part of the worker was given stays as it was."""
    with pytest.raises(ValidationError, match="frozen"):
        load_settings({}).job.timeout_s = 1  # type: ignore[misc]  # that is what is tested


def test_each_setting_is_described() -> None:
    """Every setting has a name, a type and a description, for the docs and for `comfyworker settings`."""
    for entry in list_settings():
        assert entry.names, entry.field
        assert entry.type_name, entry.field
        assert entry.description.endswith("."), entry.field


def test_no_variable_belongs_to_two_settings() -> None:
    """A name means one thing."""
    names = [name for entry in list_settings() for name in entry.names]
    assert sorted(set(names)) == sorted(names)


def test_units_stand_in_the_names_of_times_and_sizes() -> None:
    """A number of seconds, milliseconds or bytes says so, in our field's name as in the variable's."""
    units = {"_s": "_S", "_ms": "_MS", "_bytes": "_BYTES"}
    for entry in list_settings():
        for suffix, variable_suffix in units.items():
            if entry.field.endswith(suffix) and entry.type_name in {"integer", "number"}:
                assert entry.names[0].endswith((variable_suffix, f"{variable_suffix[1:]}_BYTES")), entry.field


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("COMFYUI_PORTS", "COMFYUI_PORT"),
        ("COMFYWORKER_JOB_TIMEOUT_S", "JOB_TIMEOUT_S"),
        ("COMFY_API_URLS", "COMFY_API_URL"),
    ],
)
def test_a_near_miss_is_found(name: str, meant: str) -> None:
    """A name that is nearly ours is told with the right one."""
    assert near_misses({name: "1"}) == ((name, meant),)


def test_other_variables_are_nobodys_near_miss() -> None:
    """Names of ours, and of others, are left alone."""
    assert near_misses({"COMFYUI_PORT": "1", "PATH": "/bin", "COMFYUI_MANAGER_SECRET": "x"}) == ()


def test_the_process_environment_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a child process is given can be changed without changing ours."""
    monkeypatch.setenv("COMFYUI_PORT", "9000")
    environment = process_environment()
    environment["COMFYUI_PORT"] = "1"
    assert process_environment()["COMFYUI_PORT"] == "9000"


def test_a_bound_for_copies_asks_for_copies() -> None:
    """`LOCAL_MODEL_CACHE_GB` is enough; without either, nothing is brought nearer."""
    assert load_settings({}).volume.prefetch_mode == "off"
    volume = load_settings({"LOCAL_MODEL_CACHE_GB": "1.5", "XDG_CACHE_HOME": "/cache"}).volume
    assert (volume.prefetch_mode, volume.local_cache_bytes) == ("copy", 1_500_000_000)
    assert volume.local_cache_path == Path("/cache/comfyworker/models")
    assert load_settings({"LOCAL_MODEL_CACHE_GB": "1", "LOCAL_MODEL_CACHE_DIR": "/fast"}).volume.local_cache_path == (
        Path("/fast")
    )


@pytest.mark.parametrize(
    ("mode", "size_gb", "told"),
    [
        ("copy", "", "copy needs LOCAL_MODEL_CACHE_GB"),
        ("copy", "0", "copy needs LOCAL_MODEL_CACHE_GB"),
        ("off", "5", "off copies nothing, but LOCAL_MODEL_CACHE_GB is set"),
        ("READAHEAD", "5", "readahead copies nothing, but LOCAL_MODEL_CACHE_GB is set"),
        ("always", "", "Input should be 'off', 'readahead' or 'copy'"),
    ],
)
def test_copies_that_contradict_themselves(mode: str, size_gb: str, told: str) -> None:
    """One error that names both, under the one that doctor may leave out and go on."""
    environ = {"PREFETCH_MODELS": mode, "LOCAL_MODEL_CACHE_GB": size_gb}
    with pytest.raises(InvalidSettings) as caught:
        load_settings(environ)
    [problem] = caught.value.problems
    assert (problem.path, problem.message.startswith(f"PREFETCH_MODELS: {told}")) == ("PREFETCH_MODELS", True)
    load_settings(environ | {"PREFETCH_MODELS": ""})
