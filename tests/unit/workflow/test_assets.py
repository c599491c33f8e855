"""Assets: what was uploaded before, in the place of a file's name."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from comfyworker.workflow.assets import AssetInput, find_assets, name_assets
from strategies import json_values


def asset(asset_id: object = "1", **info: object) -> dict[str, Any]:
    """Return an asset as a client writes it."""
    return {"__type": "core/ASSET", "info": {"id": asset_id, **info}}


def graph(**inputs: Any) -> dict[str, dict[str, Any]]:
    """Return a workflow of one node."""
    return {"3": {"class_type": "LoadImage", "inputs": inputs}}


def test_assets_are_found_wherever_they_stand_in_an_input() -> None:
    """Alone, in a list, or in an object; in the graph's order."""
    found = find_assets(graph(image=asset("a"), more=[asset("b"), "text", {"deep": asset("c")}], link=["9", 0]))
    assert found == (
        AssetInput("3", "LoadImage", "image", "a"),
        AssetInput("3", "LoadImage", "more", "b"),
        AssetInput("3", "LoadImage", "more", "c"),
    )


def test_an_asset_without_an_id_is_found_too() -> None:
    """So that it can be refused: a hash or a path is only a hint."""
    for broken in (
        {"__type": "core/ASSET"},
        {"__type": "core/ASSET", "info": []},
        asset(None, hash="blake3:0"),
        asset(""),
    ):
        assert find_assets(graph(image=broken)) == (AssetInput("3", "LoadImage", "image", None),)


def test_other_objects_are_none() -> None:
    """Only the type counts."""
    assert find_assets(graph(a={"__type": "core/OTHER", "info": {"id": "1"}}, b={"info": {"id": "1"}}, c=3)) == ()


def test_assets_become_names() -> None:
    """Those that have one; everything else stays, and the graph is left as it was."""
    before = graph(image=asset("a", file_path="x.png"), more=[asset("a"), {"deep": asset("b")}], seed=4)
    kept = copy.deepcopy(before)
    named = name_assets(before, {"a": "a/x.png"})
    assert named == graph(image="a/x.png", more=["a/x.png", {"deep": asset("b")}], seed=4)
    assert before == kept


@given(json_values())
def test_any_json_goes_through(value: Any) -> None:
    """However odd an input is, nothing but assets changes."""
    wanted = graph(odd=value)
    assert name_assets(wanted, {"a": "x"}) == wanted or find_assets(wanted)


@given(st.integers(min_value=1, max_value=12))
def test_naming_twice_is_naming_once(depth: int) -> None:
    """A name is no asset."""
    value: Any = asset("a")
    for _ in range(depth):
        value = [value]
    named = name_assets(graph(image=value), {"a": "x"})
    assert (name_assets(named, {"a": "y"}), find_assets(named)) == (named, ())
