"""What RunPod's Hub is told is true of the worker."""

import json
from typing import Any

import pytest

from comfyworker.settings import list_settings, load_settings
from support.source import REPOSITORY

HUB = json.loads((REPOSITORY / ".runpod/hub.json").read_text(encoding="utf-8"))
TESTS = json.loads((REPOSITORY / ".runpod/tests.json").read_text(encoding="utf-8"))
SETTINGS = {name: entry for entry in list_settings() for name in entry.names}
ENTRIES = HUB["config"]["env"]


def spelled(value: object) -> str:
    """Return a value as the Hub puts it into the environment."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_the_entry_has_what_the_hub_wants() -> None:
    """Every required field is there with a value that the Hub knows, and no other field."""
    assert set(HUB) == {"title", "description", "type", "category", "config"}
    assert (HUB["type"], HUB["category"], HUB["config"]["runsOn"]) == ("serverless", "image", "GPU")
    assert set(HUB["config"]) == {
        "runsOn", "containerDiskInGb", "gpuCount", "gpuIds", "allowedCudaVersions", "presets", "env",
    }  # fmt: skip


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["key"])
def test_a_variable_is_a_setting_and_means_the_same(entry: dict[str, Any]) -> None:
    """Its name, its meaning, its default and its choices are the setting's."""
    setting, told = SETTINGS[entry["key"]], entry["input"]
    assert told["description"] == setting.description
    assert spelled(told.get("default", "")) == setting.default.lower().removesuffix(".0") or (
        told.get("default") == setting.default
    )
    if "options" in told:
        assert [option["value"] for option in told["options"] if option["value"]] == setting.type_name.split(" | ")
    assert told["type"] in {"string", "number", "boolean"}


def test_each_variable_is_there_once_under_its_own_name() -> None:
    """No two entries set the same variable, or look the same to a user."""
    assert len({entry["key"] for entry in ENTRIES}) == len({entry["input"]["name"] for entry in ENTRIES})
    assert len({entry["key"] for entry in ENTRIES}) == len(ENTRIES)


def test_what_the_hub_sets_changes_nothing() -> None:
    """Who deploys without touching anything has the worker as it is."""
    environ = {entry["key"]: spelled(entry["input"].get("default", "")) for entry in ENTRIES}
    assert load_settings(environ) == load_settings({})


@pytest.mark.parametrize("preset", HUB["config"]["presets"], ids=lambda preset: preset["name"])
def test_a_preset_fits(preset: dict[str, Any]) -> None:
    """It sets variables that are offered, to values that the worker takes."""
    assert set(preset["defaults"]) <= {entry["key"] for entry in ENTRIES}
    load_settings({name: spelled(value) for name, value in preset["defaults"].items()})


def test_the_hubs_test_needs_no_model() -> None:
    """It is the smallest example, on a GPU and a CUDA that the entry allows; so is the job of `comfyworker test`."""
    workflow = json.loads((REPOSITORY / "examples/sunset.json").read_text(encoding="utf-8"))
    [test] = TESTS["tests"]
    assert test["input"] == {"workflow": workflow}
    assert not [node for node in workflow.values() if "Loader" in node["class_type"]]
    assert TESTS["config"]["allowedCudaVersions"] == HUB["config"]["allowedCudaVersions"]
    default = json.loads((REPOSITORY / "test_input.json").read_text(encoding="utf-8"))
    assert default == {"input": {"workflow": workflow}}
