"""What the pages on delivery and webhooks tell their reader works, on a real object store and a real receiver."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from comfyworker.delivery.store import find_location
from comfyworker.dialects import dialect_named
from comfyworker.settings import load_settings
from support.command import environment
from support.following import enter, page_steps
from support.markdown import Block, Step, blocks
from support.object_store import ObjectStore
from support.ports import free_port
from support.real_comfyui import RealComfyUI
from support.source import REPOSITORY
from support.webhook_receiver import Answer, WebhookReceiver

HOWTO = REPOSITORY / "docs/howto"
STORAGE, WEBHOOK, PICTURES = (
    HOWTO / f"{name}.md" for name in ("deliver-to-object-storage", "be-told-by-webhook", "choose-picture-formats")
)
ENDPOINT, BUCKET, RECEIVER = "https://s3.eu-central-1.amazonaws.com", "my-bucket", "https://shop.example.com"
KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TO_SAVE = re.compile(r"Save this as `(?P<name>[\w.-]+)`:\n\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
MESSAGE_ID = re.compile(r"msg_[0-9a-f]{32}")
"""It is made of the webhook's URL, among others, so that a reader's is another one."""

PLACES = [
    ("s3", "bucket 'my-bucket' at https://s3.eu-central-1.amazonaws.com", "eu-central-1"),
    ("s3", "bucket 'my-bucket' at https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com", "auto"),
    ("s3", "bucket 'my-bucket' at https://s3.us-west-004.backblazeb2.com", "us-west-004"),
    ("s3", "bucket 'my-bucket' at http://minio.internal:9000", "us-east-1"),
    ("gcs", "bucket 'my-bucket' at Google Cloud Storage", "us-east-1"),
    ("azure", "container 'my-container' at Azure", "us-east-1"),
    ("file", "the folder 'outputs'", "us-east-1"),
]
"""Where the page's variables lead, in its order: the kind of storage, what messages call it, the region."""


class Reader:
    """Follows a page in a folder of their own, with hosts and keys of theirs in the place of the page's."""

    def __init__(self, folder: Path, environ: Mapping[str, str], own: Mapping[str, str]) -> None:
        """Follow pages in `folder`; `own` is what stands in the place of what the page has."""
        self.folder = folder
        self.environ = {**environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200"}
        self.own = dict(own)

    def save_files(self, page: Path) -> None:
        """Save what the page says is to be saved."""
        for match in TO_SAVE.finditer(page.read_text(encoding="utf-8")):
            (self.folder / match["name"]).write_text(self.put_in(match["text"]), encoding="utf-8")

    def put_in(self, text: str) -> str:
        """Return a text of the page with the reader's own hosts and keys."""
        for shown, mine in self.own.items():
            text = text.replace(shown, mine)
        return MESSAGE_ID.sub("msg_…", text)

    async def enter(self, step: Step) -> str:
        """Return what is wrong with what came of a step; nothing if all is well."""
        mine = Step(self.put_in(step.command), self.put_in(step.shown), step.exit_code)
        return await asyncio.to_thread(enter, mine, self.folder, self.environ)


@pytest.fixture
async def reader(comfyui: RealComfyUI, object_store: ObjectStore, tmp_path: Path) -> Reader:
    """Return a reader who has a bucket, and has set it up."""
    bucket = await object_store.make_bucket()
    own = {
        ENDPOINT: object_store.endpoint_url,
        BUCKET: bucket,
        KEY: object_store.access_key_id,
        SECRET: object_store.secret_access_key,
    }
    variables = {
        "BUCKET_ENDPOINT_URL": object_store.endpoint_url,
        "BUCKET_NAME": bucket,
        "BUCKET_ACCESS_KEY_ID": object_store.access_key_id,
        "BUCKET_SECRET_ACCESS_KEY": object_store.secret_access_key,
        "BUCKET_REGION": object_store.region,
        "STATE_DIR": str(tmp_path / "state"),
        "ALLOW_PRIVATE_URLS": "true",
    }
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    return Reader(tmp_path, environment(comfyui, **variables), own)


def requests_of(page: Path) -> list[Any]:
    """Return the requests that a page shows."""
    shown = [json.loads(block.text) for block in blocks(page) if block.language == "json"]
    return [document for document in shown if "input" in document]


def exports(block: Block, folder: Path) -> dict[str, str]:
    """Return what a block of `export` lines sets."""
    (folder / "key.json").write_text('{"client_email": "me@example.com"}', encoding="utf-8")
    script = f"{block.text}env -0"
    done = subprocess.run(["bash", "-c", script], cwd=folder, env={}, capture_output=True, check=True)
    pairs = (pair.partition("=") for pair in done.stdout.decode().split("\0") if pair)
    return {name: value for name, _, value in pairs if name.startswith(("BUCKET_", "R2_"))}


@pytest.mark.parametrize("page", [STORAGE, PICTURES], ids=lambda page: page.stem)
async def test_a_page_can_be_followed(page: Path, reader: Reader) -> None:
    """Each command ends as the page says and prints what the page shows, but for figures."""
    reader.save_files(page)
    todo = list(page_steps(page))
    assert any(step.shown for step in todo)
    assert [fault for step in todo if (fault := await reader.enter(step))] == []


async def test_the_webhook_is_told_what_the_page_shows(reader: Reader) -> None:
    """Its body has the page's keys and words; what is not taken is listed, and sent when it is asked for."""
    async with WebhookReceiver(Answer(503)) as receiver:
        reader.own[RECEIVER] = f"http://127.0.0.1:{receiver.port}"
        reader.save_files(WEBHOOK)
        todo = [step for step in page_steps(WEBHOOK) if re.match(r"comfyworker (handle order|webhooks)", step.command)]
        assert [fault for step in todo if (fault := await reader.enter(step))] == []
        refused, taken = await receiver.wait(2)
    assert (refused.id, refused.body) == (taken.id, taken.body)
    told, shown = taken.told, json.loads([block for block in blocks(WEBHOOK) if block.language == "json"][1].text)
    for body in (told, shown):
        body["timings"] = sorted(body["timings"])
        [entry] = body["output"]
        entry["url"] = re.sub(r"https?://[^/]+/[^/]+/(.*Algorithm=).*", r"\1", entry["url"])
    assert told == shown


async def test_the_receiver_of_the_page_verifies(reader: Reader) -> None:
    """What the worker sends is taken, and what another secret signed is not."""
    reader.save_files(WEBHOOK)
    port = str(free_port())
    program = reader.folder / "receiver.py"
    program.write_text(program.read_text(encoding="utf-8").replace("9000", port), encoding="utf-8")
    commands = [line for block in blocks(WEBHOOK) for line in block.text.splitlines() if block.language == "sh"]
    [secret] = [line.partition("=")[2] for line in commands if line.startswith("export WEBHOOK_SECRET=")]
    [call] = [Step(line.replace("9000", port)) for line in commands if line.startswith("WEBHOOK_URL=")]
    reader.environ["WEBHOOK_SECRET"] = secret
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        program.name,
        cwd=reader.folder,
        env=reader.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        assert await reader.enter(call) == ""
        async with asyncio.timeout(60):
            message_id, _, event = (await process.stdout.readline()).decode().split()
        assert (message_id[:4], event) == ("msg_", "completed")
        reader.environ["WEBHOOK_SECRET"] = f"whsec_{'A' * 32}"
        assert await reader.enter(call) == ""
    finally:
        process.terminate()
        left, _ = await process.communicate()
    assert left == b""


@pytest.mark.parametrize("page", [STORAGE, WEBHOOK, PICTURES], ids=lambda page: page.stem)
def test_each_request_that_a_page_shows_is_understood(page: Path) -> None:
    """Whole: nothing in it is unknown."""
    shown = requests_of(page)
    assert shown
    for request in shown:
        assert dialect_named("worker-comfyui").parse(request, new_id=lambda: "job").warnings == ()


def test_the_variables_for_each_storage_lead_there(tmp_path: Path) -> None:
    """As the page says, and none of them is left out here."""
    shown = [block for block in blocks(STORAGE) if block.language == "sh" and block.text.startswith("export")]
    found = [find_location(load_settings(exports(block, tmp_path)).store) for block in shown]
    assert [(str(place.kind), place.place, place.region) for place in found if place is not None] == PLACES
