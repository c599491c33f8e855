"""Which custom node brings a class."""

import pytest

from comfyworker.provision.proposal.packs import core_classes, find_packs, newest_core
from comfyworker.provision.proposal.records import ProposedPack
from comfyworker.workflow import NodeClasses
from comfyworker.workflow.metadata import ListedPack

COMMIT = "1234567890abcdef1234567890abcdef12345678"
METADATA = "the workflow's metadata"


def test_core_classes_need_no_pack() -> None:
    """With or without metadata; those of newer ComfyUIs are known as well."""
    listed = [ListedPack("SomethingNew", "comfy-core", None, "0.9.1")]
    assert {"KSampler", "SaveImage", "BatchImagesNode"} <= core_classes()
    assert find_packs(["KSampler", "SomethingNew", "BatchImagesNode"], listed, None) == ()


@pytest.mark.parametrize(
    ("registry_id", "repository", "version", "expected"),
    [
        ("kj-nodes", "kijai/KJ", "1.2.3", {"name": "kj-nodes", "version": "1.2.3"}),
        ("kj-nodes", "kijai/KJ", COMMIT, {"url": "https://github.com/kijai/KJ", "version": COMMIT}),
        ("kj-nodes", None, COMMIT, {"name": "kj-nodes"}),
        ("kj-nodes", None, "nightly", {"name": "kj-nodes", "version": "nightly"}),
        (None, "kijai/KJ", None, {"url": "https://github.com/kijai/KJ"}),
        (None, "kijai/KJ", "unknown", {"url": "https://github.com/kijai/KJ"}),
    ],
)
def test_metadata_names_the_pack(
    registry_id: str | None, repository: str | None, version: str | None, expected: dict[str, str]
) -> None:
    """The registry knows releases; a commit is had from the repository."""
    packs = find_packs(["Foo"], [ListedPack("Foo", registry_id, repository, version)], None)
    assert packs == (ProposedPack.model_validate({"classes": ("Foo",), "known_by": METADATA, **expected}),)


def test_one_pack_for_many_classes() -> None:
    """It is there once, in the newest of the releases that its nodes were saved with."""
    listed = [
        ListedPack("A", "p", None, "1.9.0"),
        ListedPack("B", "p", None, "1.10.0"),
        ListedPack("B", "p", None, "0.1"),
    ]
    assert find_packs(["B", "A"], listed, None) == (
        ProposedPack(classes=("A", "B"), name="p", version="1.10.0", known_by=METADATA),
    )


def test_the_list_names_candidates_where_several_bring_a_class() -> None:
    """A person chooses."""
    (pack,) = find_packs(["KSampler (Efficient)"], [], None)
    assert (pack.is_whole, pack.candidates) == (
        False,
        ("https://github.com/jags111/efficiency-nodes-comfyui", "https://github.com/traugdor/ComfyUI-quadMoons-nodes"),
    )


def test_a_running_comfyui_tells_the_folder() -> None:
    """A known folder is its repository; another one is told as it is."""
    info = {
        "ColorMatch": {"python_module": "custom_nodes.comfyui-kjnodes"},
        "Own": {"python_module": "custom_nodes.my_nodes"},
        "Core": {"python_module": "comfy_extras.nodes_x"},
    }
    found = find_packs(info, [], NodeClasses(info))
    assert [(pack.classes, pack.url, pack.folder) for pack in found] == [
        (("ColorMatch",), "https://github.com/kijai/ComfyUI-KJNodes", "comfyui-kjnodes"),
        (("Own",), None, "my_nodes"),
    ]


def test_an_unknown_class_is_told() -> None:
    """It comes without a pack, and is not left out."""
    assert find_packs(["Nobody Knows"], [], None) == (ProposedPack(classes=("Nobody Knows",)),)


def test_the_newest_comfyui() -> None:
    """By the numbers, not by the letters."""
    listed = [ListedPack("A", "comfy-core", None, version) for version in ("0.3.9", "0.3.75", None, "x")]
    assert newest_core(listed) == "v0.3.75"
