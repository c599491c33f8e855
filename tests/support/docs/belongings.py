"""Files that a page's reader is said to have already; its surroundings name them."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from support.gui_workflows import node, workflow
from support.source import REPOSITORY

_EXAMPLES = REPOSITORY / "examples"


def _saved_by_the_page() -> str:
    """Return a workflow in GUI format."""
    graph = workflow(
        node(1, "EmptyImage", widgets_values=[64, 48, 1, 13107200], outputs=[{"name": "IMAGE", "links": [1]}]),
        node(2, "SaveImage", inputs={"images": ("IMAGE", 1)}, widgets_values=["red"]),
        links=[[1, 1, 0, 2, 0, "IMAGE"]],
    )
    return json.dumps(graph)


def _example(name: str) -> Callable[[], str]:
    return lambda: (_EXAMPLES / name).read_text(encoding="utf-8")


FILES: dict[str, Callable[[], str]] = {
    "my-workflow.json": _saved_by_the_page,
    "workflow.json": _example("sunset.json"),
    "poster.json": _example("poster.json"),
    "request.json": _example("request.json"),
    "key.json": lambda: '{"client_email": "me@example.com"}',
}


def make_files(names: Iterable[str], folder: Path) -> None:
    """Make those files in `folder`.

    Raises:
        KeyError: There is no such file here.
    """
    for name in names:
        (folder / name).write_text(FILES[name](), encoding="utf-8")
