"""What the tests of webhooks share: a receiver, and a folder for what is to be told."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.webhook_receiver import WebhookReceiver


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    """Return a running receiver."""
    async with WebhookReceiver() as receiver:
        yield receiver


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return where messages are kept; it is not there yet."""
    return tmp_path / "state" / "webhooks"
