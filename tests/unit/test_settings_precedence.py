"""Which value of a setting wins: argument, environment, default."""

import pytest
from pydantic.fields import FieldInfo

from comfyworker.errors import InvalidSettings
from comfyworker.settings import ComfyUISettings, environment_names, load_settings


def test_the_environment_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument, the process's own environment is read."""
    monkeypatch.setenv("COMFYUI_PORT", "9001")
    assert load_settings().comfyui.port == 9001


def test_a_given_environment_beats_the_process_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mapping that the caller passes is all that is read."""
    monkeypatch.setenv("COMFYUI_PORT", "9001")
    assert load_settings({"COMFYUI_QUEUE_DEPTH": "3"}).comfyui == ComfyUISettings(queue_depth=3)


def test_an_argument_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings made with arguments do not look at the environment."""
    monkeypatch.setenv("COMFYUI_PORT", "9001")
    assert ComfyUISettings(port=9002).port == 9002
    assert ComfyUISettings().port == 8188


@pytest.mark.parametrize("value", ["", "   "])
def test_an_empty_variable_counts_as_unset(value: str) -> None:
    """Platforms hand on empty variables for fields left blank."""
    assert load_settings({"COMFYUI_PORT": value}) == load_settings({})


def test_space_around_a_value_is_ignored() -> None:
    """A line break from a secret store does not change a value."""
    assert load_settings({"COMFYUI_PORT": " 9001\n"}).comfyui.port == 9001


@pytest.fixture
def alias(monkeypatch: pytest.MonkeyPatch) -> str:
    """Give COMFYUI_PORT a second name, as other workers' names are given."""

    def names(field: FieldInfo) -> tuple[str, ...]:
        own = environment_names(field)
        return (*own, "COMFY_PORT") if own == ("COMFYUI_PORT",) else own

    monkeypatch.setattr("comfyworker.settings.loading.environment_names", names)
    return "COMFY_PORT"


def test_an_alias_is_understood(alias: str) -> None:
    """A setting is read under the name that another worker gave it."""
    assert load_settings({alias: "9003"}).comfyui.port == 9003


def test_aliases_that_agree_are_one_value(alias: str) -> None:
    """Two names of one setting may be set to the same."""
    assert load_settings({"COMFYUI_PORT": "9003", alias: "9003"}).comfyui.port == 9003


def test_aliases_that_disagree_are_an_error_naming_both(alias: str) -> None:
    """Nobody has to guess which of two names wins."""
    with pytest.raises(InvalidSettings, match="COMFYUI_PORT and COMFY_PORT mean the same setting"):
        load_settings({"COMFYUI_PORT": "9001", alias: "9002"})
