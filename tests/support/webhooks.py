"""What tests of webhooks share: webhooks that do not wait, and jobs that want to tell."""

from collections.abc import Callable
from pathlib import Path

import structlog
from aiohttp.abc import AbstractResolver
from pydantic import JsonValue

from comfyworker.jobs import JobRequest, WebhookEvent, WebhookOptions
from comfyworker.settings import WebhookSettings
from comfyworker.webhooks import Hook, Webhooks

BODY: dict[str, JsonValue] = {"id": "job-1", "status": "completed", "message": "", "output": [], "timings": {}}
COMPLETED = WebhookEvent.COMPLETED


def make(
    folder: Path,
    settings: WebhookSettings | None = None,
    *,
    pauses: Callable[[int], float] = lambda _: 0.0,
    leave_within_s: float = 5.0,
    resolver: AbstractResolver | None = None,
    allow_private_urls: bool = True,
) -> Webhooks:
    """Return webhooks that do not wait between attempts."""
    return Webhooks(
        settings or WebhookSettings(),
        folder=folder,
        allow_private_urls=allow_private_urls,
        pauses=pauses,
        leave_within_s=leave_within_s,
        resolver=resolver,
    )


def asks(url: str | None, **options: object) -> JobRequest:
    """Return a job that wants to tell `url`."""
    return JobRequest(id="job-1", webhook=WebhookOptions.model_validate({"url": url, **options}))


def hook_of(webhooks: Webhooks, url: str | None, **options: object) -> Hook:
    """Return the hook of such a job."""
    hook = webhooks.hook_for(asks(url, **options))
    assert hook is not None
    return hook


def kept(folder: Path) -> list[str]:
    """Return the names of the files in the folder."""
    return sorted(path.name for path in folder.glob("*"))


def named(events: list[structlog.typing.EventDict], name: str) -> list[structlog.typing.EventDict]:
    """Return the log's events of one name."""
    return [event for event in events if event["event"] == name]
