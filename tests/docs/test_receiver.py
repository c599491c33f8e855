"""The receiver of webhooks that a page has its reader write tells our messages from others'."""

import asyncio
import datetime as dt
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path

import aiohttp
from standardwebhooks import Webhook

from support.docs.blocks import doc_blocks
from support.eventually import eventually
from support.ports import free_port
from support.source import REPOSITORY

PAGE = REPOSITORY / "docs/howto/be-told-by-webhook.md"
BODY = '{"id": "order-7", "event": "completed"}'


async def test_what_another_secret_signed_is_refused(tmp_path: Path) -> None:
    """It answers 204 to what its own secret signed and prints it, and 401 to the rest."""
    port = free_port()
    [program] = [block for block in doc_blocks(PAGE) if block.save_as == "receiver.py"]
    (tmp_path / "receiver.py").write_text(program.text.replace("9000", str(port)), encoding="utf-8")
    secrets = [f"whsec_{letter * 32}" for letter in "AB"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "receiver.py",
        cwd=tmp_path,
        env={"WEBHOOK_SECRET": secrets[0]},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        answers = [await send(port, secret) for secret in secrets]
    finally:
        process.terminate()
        printed, _ = await process.communicate()
    assert answers == [HTTPStatus.NO_CONTENT, HTTPStatus.UNAUTHORIZED]
    assert printed.decode() == "msg_1 order-7 completed\n"


async def send(port: int, secret: str) -> int:
    """Send a message that `secret` has signed, as soon as somebody listens; return the answer's status."""
    now = dt.datetime.now(tz=dt.UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", now, BODY),
    }
    async with aiohttp.ClientSession() as client:

        async def answered() -> int:
            try:
                async with client.post(f"http://127.0.0.1:{port}/jobs", data=BODY, headers=headers) as answer:
                    return answer.status
            except aiohttp.ClientConnectorError:
                return 0

        return await eventually(answered)
