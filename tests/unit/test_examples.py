"""The examples are what they are said to be, before any ComfyUI sees them."""

import base64
import io
import json
from typing import Any

import pytest
from PIL import Image

from support.source import REPOSITORY

EXAMPLES = REPOSITORY / "examples"
WORKFLOWS = sorted(path.name for path in EXAMPLES.glob("*.json") if path.name != "request.json")


def load(name: str) -> dict[str, Any]:
    """Return an example's JSON."""
    return dict(json.loads((EXAMPLES / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_is_in_api_format(name: str) -> None:
    """Each node has a class and inputs, and each link leads to a node."""
    graph = load(name)
    for node_id, node in graph.items():
        assert set(node) <= {"class_type", "inputs", "_meta"}, node_id
        for value in node["inputs"].values():
            assert not isinstance(value, list) or (value[0] in graph and isinstance(value[1], int)), node_id


@pytest.mark.parametrize("name", WORKFLOWS)
def test_titles_name_one_node(name: str) -> None:
    """A node can be named by its title, and the one that saves has one."""
    graph = load(name)
    titles = [node["_meta"]["title"] for node in graph.values() if "_meta" in node]
    assert sorted(set(titles)) == sorted(titles)
    assert all("_meta" in node for node in graph.values() if node["class_type"] == "SaveImage")


def test_the_request_holds_the_poster() -> None:
    """request.json is poster.json with a picture of the name that the workflow loads."""
    request = load("request.json")
    [image] = request["input"]["images"]
    assert request["input"]["workflow"] == load("poster.json")
    assert image["name"] == load("poster.json")["1"]["inputs"]["image"]
    head, _, encoded = image["image"].partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(encoded, validate=True))) as picture:
        assert picture.size == (384, 256)


def test_the_examples_page_names_every_file() -> None:
    """Each file that can be run is in the table of the README beside it."""
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [name for name in (*WORKFLOWS, "request.json") if f"| `{name}` |" not in page] == []
