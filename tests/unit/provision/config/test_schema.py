"""The JSON Schema of config.yml and the worker's own reader take the same files, but for what a schema cannot say."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types

from comfyworker.errors import InvalidConfig
from comfyworker.provision.config.reading import parse_config
from comfyworker.provision.config.schema import json_schema

Config = dict[str, Any]
SCHEMA = json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
URL = "https://example.org/a.safetensors"
DIGEST = "0a" * 32
MODEL: dict[str, list[Any]] = {
    "url": [
        URL,
        f" {URL} ",
        "HTTP://example.org/a",
        "s3://bucket/a",
        "r2://b/a",
        "hf://o/n/a",
        "file:///a",
        "/a b",
        "./a",
        "../a",
        "~/a",
        "a.safetensors",
        "ftp://example.org/a",
        "https://",
        "https:///",
        "https://a b",
        "",
        "  ",
        None,
        7,
        1.5,
        True,
        [],
        {},
    ],
    "destination": [
        "vae",
        " vae ",
        "loras/wan",
        "models/vae",
        "checkpoint",
        "ipadapter-flux",
        7,
        "",
        " ",
        None,
        True,
        [],
    ],
    "filename": [
        "a.safetensors",
        " a b.pt ",
        "a",
        "...",
        7,
        1.5,
        None,
        "",
        " ",
        ".",
        "..",
        " .. ",
        "a/b",
        "a\\b",
        "a\tb",
        True,
        [],
    ],
    "sha256": [DIGEST, f"sha256:{DIGEST.upper()}", f" {DIGEST} ", None, "0a", f"{DIGEST}0", "", 7, True, []],
    "size": [
        1,
        6938041050,
        6.5,
        12345678901234567890,
        "6.9 GB",
        "1GiB",
        "12",
        " 4 kb ",
        None,
        0,
        -1,
        0.5,
        "0",
        "0.0 GB",
        "GB",
        "1 PB",
        "",
        True,
        [],
    ],
    "optional": [True, False, None, "yes", 1, []],
    "unknown": [1],
}
NODE: dict[str, list[Any]] = {
    "url": [
        "https://example.org/a",
        " http://example.org/a ",
        "ssh://a",
        "git@github.com:a/b",
        "file:///a",
        "/a",
        "./a",
        "../a",
        "~/a",
        "example.org/a",
        "https://",
        "https://a b",
        "ftp://a",
        "/a b",
        "",
        None,
        7,
        True,
        [],
    ],
    "name": ["a", " comfyui-kjnodes ", "a@1.0.5", "a@", "@a", "-a", "a b", "", None, 7, True, []],
    "version": ["latest", " v1 ", 1.5, 0, "a b", "-x", " -x", -1, "", " ", None, True, []],
    "optional": [True, None, "no"],
    "unknown": [1],
}
TOP: dict[str, list[Any]] = {
    "models": [[], None, {}, "a", [None], ["a"], [{}]],
    "nodes": [[], None, {}, 7, ["a"], ["a@1"], ["a b"], [7], [None], [{}]],
    "comfyui": [
        "v0.3.75",
        0.3,
        None,
        "",
        True,
        [],
        {"version": "v1"},
        {"version": 1},
        {"version": None},
        {},
        {"v": "1"},
    ],
    "pip": [[], None, "a", ["a>=1", " a"], [1.5], ["-r a"], [" -e ."], [-1], [""], [None], [True], [[]]],
    "unknown": [1],
}

CANNOT_SAY = {
    "a misspelled folder": {"models": [{"url": URL, "destination": "checkpoint_s"}]},
    "a folder outside": {"models": [{"url": URL, "destination": "../vae"}]},
    "a folder that is none": {"models": [{"url": URL, "destination": "models/"}]},
    "a password in a URL": {"models": [{"url": "https://me:secret@example.org/a", "destination": "vae"}]},
    "a port that is none": {"models": [{"url": "https://example.org:x/a", "destination": "vae"}]},
    "less than a byte": {"models": [{"url": URL, "destination": "vae", "size": "0.4"}]},
    "two models in one place": {
        "models": [{"url": URL, "destination": "vae"}, {"url": f"{URL}?2", "destination": "vae"}]
    },
    "a node in two versions": {"nodes": ["a@1", "a@2"]},
}
"""What only the reader sees: which folders there are, what is inside a URL, what two entries come to together."""
OF_OTHERS = {
    "comfy-build.yaml": {"customNodes": [{"repository": "https://example.org/a", "gitRef": "v1"}]},
    "a snapshot of ComfyUI-Manager": {
        "git_custom_nodes": {"https://example.org/a": {"hash": "c0ffee", "disabled": False}}
    },
}
"""What the reader takes too, and editors need not know: files that other tools write."""


def reader_takes(config: object) -> bool:
    """Tell whether the worker takes a config."""
    try:
        parse_config(json.dumps(config))
    except InvalidConfig:
        return False
    return True


def one_of_each() -> list[Config]:
    """Return configs in which one value after the other is each of those that are tried, and all else is right."""
    made: list[Config] = [{key: value} for key, values in TOP.items() for value in values]
    model = {"url": URL, "destination": "vae"}
    made += [{"models": [model | {key: value}]} for key, values in MODEL.items() for value in values]
    for base in ({"url": "https://example.org/a"}, {"name": "a"}, {}):
        made += [{"nodes": [base | {key: value}]} for key, values in NODE.items() for value in values]
    return [*made, {"models": [{"url": URL}]}, {"models": [{"destination": "vae"}]}]


def test_the_schema_is_one() -> None:
    """Validators of its draft know all that it says."""
    Draft202012Validator.check_schema(SCHEMA)


def test_both_take_the_same_values() -> None:
    """Every value that is tried, good or bad, in a config that is right in all else."""
    differing = [config for config in one_of_each() if VALIDATOR.is_valid(config) != reader_takes(config)]
    assert differing == []


def entries(fields: dict[str, list[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Make entries with any of these values for any of these keys."""
    return st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in fields.items()})


def configs() -> st.SearchStrategy[Config]:
    """Make configs, good and bad; of each kind at most one entry, since what two come to is the reader's to see."""
    tops = {key: st.sampled_from(values) for key, values in TOP.items()}
    tops["models"] = tops["models"] | st.lists(entries(MODEL), max_size=1)
    tops["nodes"] = tops["nodes"] | st.lists(entries(NODE), max_size=1)
    return st.fixed_dictionaries({}, optional=tops)


@given(configs())
def test_both_take_the_same_configs(config: Config) -> None:
    """Whatever stands beside what."""
    assert VALIDATOR.is_valid(config) == reader_takes(config)


@pytest.mark.parametrize("config", CANNOT_SAY.values(), ids=CANNOT_SAY)
def test_what_a_schema_cannot_say(config: Config) -> None:
    """The reader refuses it, with its line."""
    assert (VALIDATOR.is_valid(config), reader_takes(config)) == (True, False)


@pytest.mark.parametrize("config", OF_OTHERS.values(), ids=OF_OTHERS)
def test_what_other_tools_write(config: Config) -> None:
    """The reader takes it, and the schema is of config.yml alone."""
    assert (VALIDATOR.is_valid(config), reader_takes(config)) == (False, True)
