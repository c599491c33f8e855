"""What is there is documented, and what is documented is there."""

import inspect
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main

from comfyworker import errors
from comfyworker.cli.app import app
from comfyworker.errors import InvalidConfig, WorkerError
from comfyworker.hosts.http.app import APIS, routes_of
from comfyworker.hosts.http.metrics import Metrics
from comfyworker.hosts.http.runpod.documents import StatusWord
from comfyworker.provision.config.reading import parse_config
from comfyworker.settings import list_settings
from support.dockerfile import image_variables
from support.markdown import anchors, blocks, code_spans, first_cells, links, pages, steps
from support.migration import foreign_variables
from support.source import REPOSITORY

REFERENCE = REPOSITORY / "docs/reference"
PAGES = pages()
README = REPOSITORY / "README.md"
# Others' own variables.
NOT_OURS = {
    "HTTPS_PROXY",
    "RUNPOD_ENDPOINT_BASE_URL",
    "RUNPOD_API_KEY",
    "RUNPOD_AI_API_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "CUDA_VISIBLE_DEVICES",
    "VAST_API_KEY",
    "VAST_ENDPOINT",
    "COMFY_API_KEY",
    "COMFY_BASE_URL",
}
# Statuses of RunPod's jobs look like variables.
RUNPOD_WORDS = {word for word in get_args(StatusWord) if "_" in word}
ROUTE = re.compile(r"(GET|HEAD|POST|DELETE) /\S*")
VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b")
OPTION = re.compile(r"(?<![\w-])--?[a-z][\w-]*")


def page_id(page: Path) -> str:
    """Return a page's name for the test's id."""
    return str(page.relative_to(REPOSITORY))


def command_options() -> dict[str, set[str]]:
    """Return the options of each command, by the words that call it."""
    found: dict[str, set[str]] = {}

    def walk(path: str, command: Any) -> None:  # Any: typer's command classes are its own affair
        names = {name for item in command.params for name in (*item.opts, *item.secondary_opts) if name.startswith("-")}
        found[path] = names | {"--help", "-h"}
        for name, child in getattr(command, "commands", {}).items():
            walk(f"{path} {name}", child)

    walk("comfyworker", typer.main.get_command(app))
    return found


OPTIONS = command_options()


def documented_options() -> dict[str, set[str]]:
    """Return the options of each command as docs/reference/cli.md has them."""
    found: dict[str, set[str]] = {}
    for section in (REFERENCE / "cli.md").read_text(encoding="utf-8").split("\n## ")[1:]:
        path, _, text = section.partition("\n")
        rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `-")]
        found[path] = {name for cell in rows for name in re.findall(r"`([^`]+)`", cell)} | {"--help", "-h"}
    return found


def mentioned_commands(page: Path) -> list[str]:
    """Return every call of the command that a page mentions, in its text or its blocks."""
    lines = [step.command for block in blocks(page) for step in steps(block)]
    found = [part.strip() for line in [*lines, *code_spans(page)] for part in re.split(r"[|;<>]|&&", line)]
    return [call for call in found if re.match(r"([A-Z_]+=\S+ )*comfyworker( |$)", call)]


def faults_of(call: str) -> list[str]:
    """Return what is wrong with a call of the command: no such command, no such option."""
    words = re.sub(r"^([A-Z_]+=\S+ )*", "", call).split()
    path = words[0]
    for word in words[1:]:
        if f"{path} {word}" not in OPTIONS:
            break
        path += f" {word}"
    is_group = any(other.startswith(f"{path} ") for other in OPTIONS)
    unknown = set(OPTION.findall(re.sub(r"\"[^\"]*\"", "", call))) - OPTIONS[path]
    faults = [f"{call}: there is no {name}" for name in sorted(unknown)]
    rest = words[len(path.split()) :]
    if is_group and rest and not rest[0].startswith("-") and rest[0] != "COMMAND":
        faults.append(f"{call}: there is no command {rest[0]}")
    return faults


def test_each_setting_is_documented_and_none_that_is_gone() -> None:
    """The page of the settings has every name of every setting, in their order, and no other."""
    assert first_cells(REFERENCE / "settings.md") == [name for entry in list_settings() for name in entry.names]


def test_each_route_is_documented_and_none_that_is_gone() -> None:
    """The page of the HTTP routes has every method of every path, also those that only clients know, and no other."""
    there = {f"{method} {route.path}" for route in routes_of(APIS, Metrics()) for method in route.methods}
    page = REFERENCE / "http.md"
    head, _, _ = page.read_text(encoding="utf-8").partition("\n## ")
    listed = {cell for cell in first_cells(page) if ROUTE.fullmatch(cell)}
    headings = re.findall(r"^### (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == {heading for heading in headings if ROUTE.fullmatch(heading)}
    assert listed | {span for span in re.findall(r"`([^`]+)`", head) if ROUTE.fullmatch(span)} == there


def test_each_metric_is_documented_and_none_that_is_gone() -> None:
    """The page for whoever runs the server has every metric of ours, and no other."""
    families = [family for family in Metrics().registry.collect() if family.name.startswith("comfyworker_")]
    names = [f"{family.name}_total" if family.type == "counter" else family.name for family in families]
    cells = first_cells(REPOSITORY / "docs/howto/operate-the-server.md")
    assert sorted(cell for cell in cells if cell.startswith("comfyworker_")) == sorted(names)


def test_each_error_is_documented_and_none_that_is_gone() -> None:
    """The page of the errors has every code, and no other."""
    classes = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, WorkerError)]
    codes = [error.code for error in classes if error is not WorkerError]
    assert first_cells(REFERENCE / "errors.md") == codes


def read_keys(text: str) -> set[str]:
    """Return the keys that the reader of config.yml names as known where it finds the key `?` that is not."""
    with pytest.raises(InvalidConfig) as caught:
        parse_config(text)
    [problem] = [problem for problem in caught.value.problems if problem.code == "unknown_key"]
    return set(problem.message.rpartition("known are ")[2].split(", "))


def test_each_key_of_a_config_is_documented_and_none_that_is_gone() -> None:
    """The page of config.yml has every key that is read at each place, and no other; so has the schema."""
    sections = (REFERENCE / "config-yml.md").read_text(encoding="utf-8").split("\n## ")
    told = {
        section.partition("\n")[0]: set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) for section in sections
    }
    assert {heading: keys for heading, keys in told.items() if keys} == {
        "The file": read_keys("'?': 1"),
        "A model": read_keys("models: [{url: 'https://e.org/a.pt', destination: vae, '?': 1}]"),
        "A custom node": read_keys("nodes: [{url: 'https://e.org/a', '?': 1}]"),
        "ComfyUI": read_keys("comfyui: {version: v1, '?': 1}"),
    }


def test_each_command_is_documented_with_its_options_and_none_that_is_gone() -> None:
    """The page of the command line has every command with every option, and no other."""
    assert documented_options() == OPTIONS


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_each_command_that_a_page_mentions_can_be_called(page: Path) -> None:
    """A reader who copies a command finds it there, with its options."""
    assert [fault for call in mentioned_commands(page) for fault in faults_of(call)] == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_each_variable_that_a_page_mentions_is_a_setting(page: Path) -> None:
    """No page tells of a variable that nobody reads."""
    known = set(VARIABLE.findall(" ".join(name for entry in list_settings() for name in entry.names)))
    known |= NOT_OURS | image_variables() | (foreign_variables() if page.parent.name == "migration" else set())
    text = " ".join([*code_spans(page), *(block.text for block in blocks(page) if block.language == "sh")])
    assert set(VARIABLE.findall(text)) - known - RUNPOD_WORDS == set()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_each_link_leads_somewhere(page: Path) -> None:
    """Files that are linked are there, and so are the headings in them."""
    broken = []
    for target in links(page):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def linked_from(page: Path) -> set[Path]:
    """Return the files that a page links to."""
    return {(page.parent / target.partition("#")[0]).resolve() for target in links(page)}


def test_each_page_can_be_reached() -> None:
    """The README leads to the index of the docs and to every page beside them, the index to every page of the docs."""
    index = REPOSITORY / "docs/index.md"
    inside = {page for page in PAGES if page.is_relative_to(index.parent)}
    assert [page_id(page) for page in sorted(inside - linked_from(index) - {index})] == []
    assert [page_id(page) for page in PAGES if page not in inside | linked_from(README) | {README}] == []
    assert index in linked_from(README)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_each_make_target_that_a_page_mentions_is_there(page: Path) -> None:
    """`make something` does something."""
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    commands = [*code_spans(page), *(step.command for block in blocks(page) for step in steps(block))]
    assert {words[1] for command in commands if (words := command.split())[:1] == ["make"]} - targets == set()


def test_a_fault_in_a_page_would_be_seen() -> None:
    """The checks themselves work: a command, an option and a subcommand that are not there are told."""
    calls = (
        "comfyworker run x.json --colour red",
        "comfyworker paint",
        "comfyworker comfyui remove",
        "comfyworker doctor",
    )
    assert [faults_of(call) for call in calls] == [
        ["comfyworker run x.json --colour red: there is no --colour"],
        ["comfyworker paint: there is no command paint"],
        ["comfyworker comfyui remove: there is no command remove"],
        [],
    ]
