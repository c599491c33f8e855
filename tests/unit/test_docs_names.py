"""Names that programs go by are documented: keys of requests, codes of Comfy API v2, events of the log."""

import inspect
import re
from collections.abc import Iterator
from functools import cache

import pytest

from comfyworker import errors
from comfyworker.dialects import comfy_api_v2
from comfyworker.errors import InvalidRequest, Problem, WorkerError
from comfyworker.hosts.http.documents import JobInput, OutputWishes, WebhookWishes
from support.markdown import code_spans, pages
from support.source import REPOSITORY, python_files

REFERENCE = REPOSITORY / "docs/reference"
REQUEST, COMFY_V2 = REFERENCE / "request.md", REFERENCE / "dialects/comfy-api-v2.md"
LISTS = ("images", "models", "overrides")
"""The keys of `input` whose entries are objects."""
EVENT = re.compile(r"[a-z][a-z0-9_]*\.[a-z0-9_]+")
LITERAL = re.compile(rf"\"({EVENT.pattern})\"")
FILES = {"json", "yml", "yaml", "toml", "md", "sh", "py", "png", "txt", "key", "lock", "log"}
NO_EVENTS = {"input", "inputs", "output", "policy", "details", "timings", "node", "job.json", "server.lock"}
"""First words, or whole names, of spans that look like events and are keys or files."""


def table_keys(text: str) -> list[str]:
    """Return the code spans in the first column of a text's tables."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return [span for row in rows for span in re.findall(r"`([^`]+)`", row)]


@cache
def logged_events() -> set[str]:
    """Return what looks like an event's name in our code: some are chosen first and logged afterwards."""
    sources = [path.read_text(encoding="utf-8") for path in python_files() if "src" in path.parts]
    return {name for source in sources for name in LITERAL.findall(source) if name.partition(".")[2] not in FILES}


def told_events() -> Iterator[tuple[str, str]]:
    """Yield each event that a page tells of, with the page; its first word is one of those that events have."""
    rooms = {name.partition(".")[0] for name in logged_events()} - NO_EVENTS
    for page in pages():
        for span in code_spans(page):
            room, _, verb = span.partition(".")
            if EVENT.fullmatch(span) and room in rooms and verb not in FILES and span not in NO_EVENTS:
                yield page.name, span


def test_each_key_of_a_request_is_documented_and_none_that_is_gone() -> None:
    """The page of the request has every key of `input`, those of the entries of its lists too, and no other."""
    told = [key.removeprefix("input.") for key in table_keys(REQUEST.read_text(encoding="utf-8")) if "input." in key]
    schema = JobInput.model_json_schema()
    there = list(JobInput.model_fields)
    for name in LISTS:
        entry = schema["properties"][name]["anyOf"][0]["items"]["$ref"].rpartition("/")[2]
        there += [f"{name}[].{key}" for key in schema["$defs"][entry]["properties"]]
    assert sorted(told) == sorted(there)


@pytest.mark.parametrize(("heading", "model"), [("key of `output`", OutputWishes), ("key of `webhook`", WebhookWishes)])
def test_each_key_of_a_part_of_a_request_is_documented(heading: str, model: type[OutputWishes | WebhookWishes]) -> None:
    """The table of its keys has every one, and no other."""
    _, _, after = REQUEST.read_text(encoding="utf-8").partition(f"| {heading} |")
    assert table_keys(after.partition("\n\n")[0]) == list(model.model_fields)


def test_each_code_of_comfy_api_v2_has_the_status_that_its_page_says() -> None:
    """Its page has what this API answers other than all do, and nothing that it does not answer."""
    _, _, section = COMFY_V2.read_text(encoding="utf-8").partition("## Errors\n")
    rows = [line.split("|")[1:3] for line in section.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    told = {code: int(status) for codes, status in rows for code in re.findall(r"`(\w+)`", codes)}
    classes = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, WorkerError)]
    statuses = {error.code: comfy_api_v2.render_error(error("x"))[0] for error in classes}
    special = (comfy_api_v2.METADATA_INVALID, comfy_api_v2.INVALID_METADATA_FILTER, comfy_api_v2.INVALID_CURSOR)
    for code in special:
        refused = InvalidRequest("x", problems=[Problem(message="x", code=code, path="x")])
        statuses[code] = comfy_api_v2.render_error(refused)[0]
    assert told == {code: statuses[code] for code in told}
    usual = {error.code: error.http_status for error in classes}
    assert {code for code, status in statuses.items() if usual.get(code) != status} <= told.keys()


def test_each_event_that_a_page_tells_of_is_logged() -> None:
    """Whoever searches the log for what a page names will find it."""
    told = set(told_events())
    assert {name for _, name in told} >= {"job.ended", "startup.ready", "webhooks.given_up"}
    assert {(page, name) for page, name in told if name not in logged_events()} == set()
