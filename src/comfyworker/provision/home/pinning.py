"""The version of ComfyUI that a config.yml asks for: brought as `comfyworker comfyui update` brings it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.locate import Installation, refresh_comfyui
from comfyworker.errors import WorkerError
from comfyworker.finishing import in_thread
from comfyworker.jobs import JobError
from comfyworker.provision.home.updating import Updater
from comfyworker.provision.reporting import Item, ItemKind, ProvisionReporter
from comfyworker.settings import ProvisionSettings

COMFYUI_ITEM = Item(key="comfyui", kind=ItemKind.COMFYUI, title="ComfyUI")


class Followed(BaseModel):
    """What came of bringing ComfyUI to the version that is asked for."""

    model_config = ConfigDict(frozen=True)

    installation: Installation
    """As it is now."""
    error: JobError | None = None
    """Why it is not that version; then it is the one that was there before."""


async def follow_version(
    wanted: str,
    installation: Installation,
    settings: ProvisionSettings,
    reporter: ProvisionReporter,
    *,
    repository: str,
) -> Followed:
    """Bring ComfyUI to a version; what fails is in the result, since the rest of a config can be made true without it.

    Args:
        wanted: Git tag, branch or commit.
        installation: The ComfyUI as it is.
        settings: How things are fetched.
        reporter: Who is told.
        repository: Where versions are fetched from.
    """
    updater = Updater(installation, settings, _Told(reporter), repository=repository)
    try:
        await updater.update(wanted)
    except WorkerError as error:
        return Followed(installation=installation, error=JobError.of(error))
    return Followed(installation=await in_thread(lambda: refresh_comfyui(installation)))


async def foresee_version(
    wanted: str, installation: Installation, settings: ProvisionSettings, *, repository: str
) -> tuple[str, JobError | None]:
    """Return what people call the version that is asked for, and why it cannot be had, if so; nothing is changed."""
    updater = Updater(installation, settings, _Told(None), repository=repository)
    try:
        plan = await updater.plan(wanted)
    except WorkerError as error:
        return wanted, JobError.of(error)
    return plan.target.title, None


class _Told:
    """Tells a reporter of provisioning what an install tells."""

    def __init__(self, reporter: ProvisionReporter | None) -> None:
        self._reporter = reporter

    def step(self, number: int, total: int, title: str) -> None:
        """Pass on that a step begins."""
        if self._reporter is not None:
            self._reporter.stepped(COMFYUI_ITEM, f"{number}/{total} {title}")

    def line(self, text: str) -> None:
        """Pass over a line of a program's output."""

    def note(self, text: str) -> None:
        """Pass on a sentence."""
        if self._reporter is not None:
            self._reporter.noted(text)
