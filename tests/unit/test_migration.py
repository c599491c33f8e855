"""Who comes from another worker finds each of its names on our page, and what stands beside it is there."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from comfyworker.dialects import dialect_named
from comfyworker.workflow._model_folders import folder_of
from support.migration import Origin, origins, rows
from support.our_names import KINDS, routes
from support.source import REPOSITORY

ORIGINS = origins()
GOLDEN = REPOSITORY / "tests/golden"
WORKFLOW = {
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "prompt", "clip": ["4", 1]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "ComfyUI"}},
}
PICTURE = "data:image/png;base64,iVBORw0KGgo="

each_origin = pytest.mark.parametrize("origin", ORIGINS, ids=lambda origin: origin.name)


def bodies(origin: Origin) -> Iterator[dict[str, Any]]:
    """Yield the worker's own requests, with a workflow and a picture where they stand for any."""
    for example in origin.examples:
        text = re.sub(
            r'("workflow(_json)?": )"workflow"', lambda found: found[1] + json.dumps(WORKFLOW), example["body"]
        )
        yield json.loads(text.replace('"image": "picture"', f'"image": "{PICTURE}"'))


def values_at(document: Any, path: str) -> list[Any]:
    """Return what stands at a path such as `images[].type` of a document; nothing if there is no such place."""
    found = [document]
    for part in path.split("."):
        key = part.removesuffix("[]")
        found = [each[key] for each in found if isinstance(each, dict) and key in each]
        if part.endswith("[]"):
            found = [item for each in found if isinstance(each, list) for item in each]
    return found


def is_there(origin: Origin, theirs: str, kind: str, name: str) -> bool:
    """Tell whether what stands beside a name is there.

    A key is in the worker's own requests (which no parser may say to ignore) or in one of the dialect's golden
    answers, `key=value` with that value; a model folder is what the class loads from; else see `support.our_names`.
    """
    if kind in {"request", "envelope"}:
        return any(values_at(body, name) or values_at(body.get("payload"), name) for body in bodies(origin))
    if kind == "answer":
        key, is_valued, value = name.partition("=")
        answers = [json.loads(file.read_text("utf-8"))["answer"] for file in (GOLDEN / origin.dialect).iterdir()]
        found = [each for answer in answers for each in values_at(answer, key)]
        return value in found if is_valued else bool(found)
    if kind == "loads":
        input_name, _, folder = name.partition(" from ")
        return folder_of(theirs, input_name, "model.safetensors") == folder
    return KINDS[kind](name)


def words_beside(theirs: str, kind: str, name: str) -> list[str]:
    """Return what the row of a name must have in code beside it, or link to."""
    if kind == "loads":
        input_name, _, folder = name.partition(" from ")
        return [input_name, folder]
    if kind == "make":
        return [f"make {name}"]
    if kind == "answer":
        key, _, value = name.partition("=")
        return [word for word in [value or key] if word != theirs or not value]
    return [name]


def stand_in(words: list[str], rest: str) -> bool:
    """Tell whether a row has each of these words."""
    spans = re.findall(r"`([^`]+)`", rest)
    linked = [(REPOSITORY / "docs/migration" / target).resolve() for target in re.findall(r"\]\(([^)#]+)", rest)]
    return all(any(word in span for span in spans) or REPOSITORY / word in linked for word in words)


@each_origin
def test_each_name_is_on_its_page(origin: Origin) -> None:
    """Each is the first cell of a row, and what there is here stands beside it; where there is nothing, why."""
    told = rows(origin.page)
    missing = []
    for theirs, ours in origin.names.items():
        wanted = [word for kind, name in ours for word in words_beside(theirs, kind, name)]
        beside = [rest for names, rest in told if theirs in names and rest.strip(" |")]
        if not any(stand_in(wanted, rest) for rest in beside):
            missing.append((theirs, wanted, beside))
    assert missing == []


@each_origin
def test_a_page_tells_of_no_other_name(origin: Origin) -> None:
    """What a table has in its first column is a name that the worker has."""
    assert [name for names, _ in rows(origin.page) for name in names if name not in origin.names] == []


@each_origin
def test_what_there_is_here_is_there(origin: Origin) -> None:
    """A setting is one that is read, a command can be called, a route is served, a key is in requests or answers."""
    told = [(theirs, kind, name) for theirs, ours in origin.names.items() for kind, name in ours]
    assert [each for each in told if not is_there(origin, *each)] == []


@each_origin
def test_the_requests_are_understood(origin: Origin) -> None:
    """Each key that the worker's documents show is known: nothing is said to be ignored; the route is served."""
    dialect = dialect_named(origin.dialect)
    assert [dialect.parse(body, new_id=lambda: "id").warnings for body in bodies(origin)] == [()] * len(origin.examples)
    assert {f"POST {example['route']}" for example in origin.examples} <= routes()


def test_a_name_that_is_not_there_would_be_seen() -> None:
    """The checks themselves work."""
    wrong = {
        "setting": "COMFY_COLOUR",
        "request": "input.colour",
        "answer": "images[].type=colour",
        "loads": "model_name from colours",
        "code": "no_colour",
        "route": "POST /colour",
        "command": "comfyworker config apply --colour",
        "config": "models[].colour",
        "file": "docs/colour.md",
        "url-type": "colour",
        "make": "colour",
        "place": "/colour",
    }
    assert [kind for kind, name in wrong.items() if is_there(ORIGINS[0], "UNETLoader", kind, name)] == []


def test_each_page_has_its_names() -> None:
    """Every page of the folder is held by a list."""
    assert {origin.page for origin in ORIGINS} == set((REPOSITORY / "docs/migration").glob("*.md"))
