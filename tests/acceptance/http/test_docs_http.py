"""What the pages on the server tell their reader works, with a server that runs as they say."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from comfyworker.dialects import dialect_named
from comfyworker.settings import load_settings
from support.clients import client_program
from support.command import environment
from support.following import as_pattern, enter, page_steps
from support.markdown import Block, Step, blocks
from support.real_comfyui import RealComfyUI
from support.serving import Serving, ready, serving
from support.source import REPOSITORY

HOWTO = REPOSITORY / "docs/howto"
SERVE, VAST, DEVELOP, OPERATE, FILES = (
    HOWTO / f"{name}.md"
    for name in (
        "serve-over-http",
        "serve-vast-clients",
        "develop-against-the-server",
        "operate-the-server",
        "send-input-files",
    )
)
README = REPOSITORY / "README.md"
SHOWN_URL = "http://127.0.0.1:8000"
TO_SAVE = re.compile(r"Save this as `(?P<name>[\w.-]+)`:\n\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
DIALECTS = {"input": "worker-comfyui", "payload": "pyworker", "workflow": "comfy-api-v2"}
"""By the key that a request of each has at its top."""


@pytest.fixture
async def server(comfyui: RealComfyUI, tmp_path: Path) -> AsyncIterator[Serving]:
    """Start a server as the pages' reader does, and wait for its ComfyUI."""
    own = {"COMFYUI_BASE_DIR": str(comfyui.base_dir)}
    async with serving(comfyui.url, tmp_path / "state", environ=own) as server:
        await ready(server)
        yield server


def save_files(page: Path, folder: Path) -> None:
    """Save what the page says is to be saved, and have what the repository has."""
    (folder / "examples").symlink_to(REPOSITORY / "examples")
    for match in TO_SAVE.finditer(page.read_text(encoding="utf-8")):
        (folder / match["name"]).write_text(match["text"], encoding="utf-8")


async def follow(steps: Iterable[Step], server: Serving, folder: Path) -> list[str]:
    """Return what is wrong with what came of some steps."""
    environ = {**environment(), "PATH": os.environ["PATH"]}
    faults = []
    for step in steps:
        mine = Step(
            step.command.replace(SHOWN_URL, server.url), step.shown.replace(SHOWN_URL, server.url), step.exit_code
        )
        faults.append(await asyncio.to_thread(enter, mine, folder, environ))
    return [fault for fault in faults if fault]


@pytest.mark.parametrize("page", [README, SERVE, VAST, FILES], ids=lambda page: page.stem)
async def test_each_line_to_curl_works(page: Path, server: Serving, tmp_path: Path) -> None:
    """It answers what the page shows, but for figures."""
    save_files(page, tmp_path)
    todo = [step for step in page_steps(page) if step.command.startswith("curl")]
    assert todo
    assert all(step.shown for step in todo)
    assert await follow(todo, server, tmp_path) == []


@pytest.mark.parametrize("page", [README, SERVE], ids=lambda page: page.stem)
def test_the_server_says_what_the_page_shows(page: Path, server: Serving) -> None:
    """When it is up, it prints where it is and what to curl."""
    [shown] = [step.shown for step in page_steps(page) if step.command == "comfyworker serve" and step.shown]
    printed = " ".join(" ".join(server.stdout_lines).split())
    assert re.fullmatch(as_pattern(shown.replace(SHOWN_URL, server.url)), printed), printed


def test_each_request_that_a_page_shows_is_understood() -> None:
    """Whole: nothing in it is unknown."""
    documents = [json.loads(block.text) for page in (SERVE, VAST) for block in blocks(page) if block.language == "json"]
    for document in documents:
        [dialect] = [name for key, name in DIALECTS.items() if key in document]
        assert dialect_named(dialect).parse(document, new_id=lambda: "job").warnings == ()
    assert len(documents) == 3


@pytest.mark.parametrize("index", [0, 1], ids=["runpod", "comfy-sdk"])
async def test_the_client_programs_make_their_pictures(index: int, server: Serving, tmp_path: Path) -> None:
    """Each program runs as it stands, with the variables that the page sets before it."""
    save_files(DEVELOP, tmp_path)
    program = [block for block in blocks(DEVELOP) if block.language == "python"][index]
    variables = exported(DEVELOP)
    process = await asyncio.create_subprocess_exec(
        str(client_program("python")),
        "-c",
        program.text,
        env={
            "HOME": str(tmp_path),
            **{name: value.replace(SHOWN_URL, server.url) for name, value in variables.items()},
        },
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert "poster_00001_.png" in out.decode()
    assert heads_of_pictures(tmp_path) == [b"\x89PNG"]


@pytest.mark.parametrize("page", [SERVE, OPERATE], ids=lambda page: page.stem)
def test_the_variables_that_a_page_sets_are_good(page: Path) -> None:
    """The settings take them, and with them the address that the page names."""
    variables = exported(page)
    http = load_settings(variables).http
    assert variables
    assert bool(http.api_keys) == ("API_KEYS" in variables)
    assert http.public_url == variables.get("PUBLIC_URL")


def heads_of_pictures(folder: Path) -> list[bytes]:
    """Return how each picture in a folder begins."""
    return [path.read_bytes()[:4] for path in folder.glob("poster_*.png")]


def exported(page: Path) -> dict[str, str]:
    """Return what the `export` lines of a page set."""
    lines = [line for block in shell_blocks(page) for line in block.text.splitlines() if line.startswith("export ")]
    pairs = (line.removeprefix("export ").partition("=") for line in lines)
    return {name: value for name, _, value in pairs}


def shell_blocks(page: Path) -> list[Block]:
    """Return the blocks of a page that are for a shell."""
    return [block for block in blocks(page) if block.language == "sh"]
