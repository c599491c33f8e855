"""What a workflow's metadata says of models and custom nodes."""

from typing import Any

import pytest

from comfyworker.workflow.metadata import (
    ListedModel,
    ListedPack,
    find_listed,
    listed_in_graph,
    listed_models,
    listed_pack,
)

URL = "https://example.com/a"
DIGEST = "AB" * 32


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"name": "a"}, ListedModel("a", None, None, "1")),
        (
            {"name": "a", "url": URL, "directory": "vae", "hash": DIGEST, "hash_type": "SHA256"},
            ListedModel("a", "vae", URL, "1", DIGEST.lower()),
        ),
        ({"name": "a", "hash": DIGEST}, ListedModel("a", None, None, "1", DIGEST.lower())),
        ({"name": "a", "hash": DIGEST, "hash_type": "BLAKE3"}, ListedModel("a", None, None, "1")),
        ({"name": "a", "hash": "short", "url": 7, "directory": []}, ListedModel("a", None, None, "1")),
    ],
)
def test_a_listed_model(entry: dict[str, Any], expected: ListedModel) -> None:
    """What does not fit is left out; only a SHA-256 counts as hash."""
    assert list(listed_models([entry], "1")) == [expected]


@pytest.mark.parametrize("entries", [None, {}, "x", [None, 7, {}, {"name": 7}, {"name": ""}]])
def test_what_lists_nothing(entries: object) -> None:
    """Anybody may have written the file."""
    assert list(listed_models(entries, "1")) == []
    assert listed_in_graph({"1": {"class_type": "A", "inputs": {}, "_meta": {"models": entries}}}) == ()


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({}, None),
        ({"cnr_id": "comfy-core", "ver": "0.3.75"}, ListedPack("A", "comfy-core", None, "0.3.75")),
        ({"aux_id": "owner/name", "ver": "abc"}, ListedPack("A", None, "owner/name", "abc")),
        ({"aux_id": "https://evil.com/x", "cnr_id": "../x"}, None),
        ({"cnr_id": "x", "ver": "1 && rm"}, ListedPack("A", "x", None, None)),
    ],
)
def test_a_listed_pack(properties: dict[str, Any], expected: ListedPack | None) -> None:
    """Names that could be anything else than a registry's, a repository's or a version are left out."""
    assert listed_pack("A", properties) == expected


@pytest.mark.parametrize(
    ("listed", "name", "folder", "is_found"),
    [
        (("a.sft", "vae"), "a.sft", "vae", True),
        (("a.sft", "vae"), "a.sft", "loras", True),
        (("a.sft", "vae"), "wan/a.sft", "loras", False),
        (("a.sft", "loras"), "wan/a.sft", "loras", True),
        (("a.sft", "loras/wan"), "wan\\a.sft", "loras", True),
        (("wan/a.sft", "loras"), "a.sft", "loras", False),
        (("a.sft", None), "wan/a.sft", None, True),
        (("b.sft", "vae"), "a.sft", "vae", False),
    ],
)
def test_which_entry_is_meant(listed: tuple[str, str | None], name: str, folder: str | None, *, is_found: bool) -> None:
    """Folders may stand in the name, in the folder, or be left out; a name alone is believed over its folder."""
    entry = ListedModel(*listed, url=URL, node_id="1")
    assert find_listed([entry], name, folder) == (entry if is_found else None)


def test_the_best_entry_is_meant() -> None:
    """The same place first, then the one with a URL."""
    other = ListedModel("a.sft", "vae", None, "1")
    better = ListedModel("a.sft", "loras", None, "1")
    best = ListedModel("a.sft", "loras", URL, "2")
    assert find_listed([other, better, best], "a.sft", "loras") == best
