"""What hypothesis makes for the tests: workflows, links, overrides, file names."""

import string
from typing import Any

from hypothesis import strategies as st

from comfyworker.jobs import Graph
from comfyworker.workflow import Override, is_link

CLASSES = ("KSampler", "LoadImage", "SaveImage", "CLIPTextEncode", "CheckpointLoaderSimple", "VAEDecode", "NoSuchClass")
FIELDS = ("text", "seed", "steps", "model", "image", "images", "ckpt_name", "settings", "list")


def json_values(*, max_leaves: int = 8) -> st.SearchStrategy[Any]:
    """Make any JSON value, numbers beyond 64 bits included."""
    scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=max_leaves,
    )


def node_ids() -> st.SearchStrategy[str]:
    """Make ids as ComfyUI's page does: numbers, and `12:3` for a node in a subgraph."""
    number = st.integers(min_value=1, max_value=9).map(str)
    return number | st.tuples(number, number).map(":".join)


def links(sources: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[list[Any]]:
    """Make links to these nodes, or to any."""
    return st.tuples(node_ids() if sources is None else sources, st.integers(min_value=0, max_value=3)).map(list)


@st.composite
def workflows(draw: st.DrawFn) -> Graph:
    """Make API-format workflows of the right shape; their links lead to nodes that are there, their values anywhere."""
    ids = draw(st.lists(node_ids(), min_size=1, max_size=5, unique=True))
    # A value of the shape [text, number] is a link to ComfyUI, true and false included.
    values = json_values().filter(lambda value: not is_link(value))
    inputs = st.dictionaries(st.sampled_from(FIELDS), links(st.sampled_from(ids)) | values, max_size=4)
    graph: Graph = {}
    for node_id in ids:
        graph[node_id] = {"class_type": draw(st.sampled_from(CLASSES)), "inputs": draw(inputs)}
        if draw(st.booleans()):
            graph[node_id]["_meta"] = {"title": draw(st.sampled_from(("Main", "Positive", "Save it")))}
    return graph


def overrides() -> st.SearchStrategy[Override]:
    """Make overrides, many of which fit a node of `workflows()`."""
    field = st.sampled_from((*FIELDS, "inputs.text", "settings.a.b", "list.0", "_meta.title", "")) | st.text(max_size=8)
    return st.one_of(
        st.builds(Override, node_id=node_ids(), field=field, value=json_values()),
        st.builds(Override, title=st.sampled_from(("Main", "Positive", "Nobody")), field=field, value=json_values()),
    )


def filenames() -> st.SearchStrategy[str]:
    """Make file names as requests have them: plain, with folders, and some that try to leave their folder."""
    plain = st.text(alphabet=string.ascii_letters + string.digits + " ._-äé", min_size=1, max_size=12)
    odd = st.sampled_from(("../../x", "/etc/passwd", "a/../b.png", "C:\\x.png", "..", ".", "", "con.png", "a\x00.png"))
    return plain | plain.map(lambda name: f"sub/{name}.png") | odd | st.text(max_size=20)
