"""Models that are on their way, so that a job waits only for those that it needs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import PurePosixPath

from comfyworker.comfyui.model_kinds import kind_of_folder
from comfyworker.errors import DownloadFailed, ProvisioningFailed
from comfyworker.jobs import JobError
from comfyworker.provision.entries import ModelEntry, likely_name


class _Arrival:
    """One entry of a config.yml: under which name it will be there, and whether it is."""

    def __init__(self, entry: ModelEntry) -> None:
        self.kind, self.subfolder = _split(entry.destination)
        self.filename = entry.filename or likely_name(entry.url)
        self.is_named = entry.filename is not None
        self.changed = asyncio.Event()
        self.has_ended = False
        self.error: JobError | None = None

    def may_be(self, kind: str | None, name: PurePosixPath) -> bool:
        if kind is not None and (self.kind != kind or self.subfolder != name.parent):
            return False
        if self.is_named or self.has_ended:
            return self.filename == name.name
        return True  # until its source has told its name, which may be another than the one in its address

    def tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class Arrivals:
    """The models that a config asks for, by what a workflow calls them."""

    def __init__(self, entries: Iterable[ModelEntry]) -> None:
        """Expect all of them."""
        self._arrivals = [_Arrival(entry) for entry in entries]

    def expects(self, folder: str | None, name: str) -> bool:
        """Tell whether a file is likely to come.

        Args:
            folder: ComfyUI's folder for it, as `checkpoints`, or one below it; older names of one are understood. None
                is any: where the loaders of custom nodes look is not always known.
            name: As a workflow names it: with the folders below that one, as `wan/x.safetensors`.
        """
        return any(not arrival.has_ended for arrival in self._matching(folder, name))

    async def wait(self, folder: str | None, name: str) -> None:
        """Wait until a file is there; return at once if the config does not ask for it, or if it is there.

        Raises:
            ProvisioningFailed: it could not be had.
        """
        while True:
            self.raise_failure(folder, name)
            waiting = next((arrival for arrival in self._matching(folder, name) if not arrival.has_ended), None)
            if waiting is None:
                return
            await waiting.changed.wait()

    def raise_failure(self, folder: str | None, name: str) -> None:
        """Raise why a file did not come; nothing if it did, or still may, or if the config does not ask for it.

        Raises:
            ProvisioningFailed: it could not be had.
        """
        failure = next((arrival.error for arrival in self._matching(folder, name) if arrival.error is not None), None)
        if failure is not None:
            raise error_of(failure)

    def named(self, number: int, place: str) -> None:
        """Hear under which name an entry will be there.

        Args:
            number: Which entry.
            place: Its place below the models folder.
        """
        arrival = self._arrivals[number]
        path = PurePosixPath(place)
        arrival.kind, arrival.subfolder = _split(str(path.parent))
        arrival.filename, arrival.is_named = path.name, True
        arrival.tell()

    def ended(self, number: int, error: JobError | None = None) -> None:
        """Hear that an entry is there, or why it is not."""
        arrival = self._arrivals[number]
        arrival.has_ended, arrival.error = True, error
        arrival.tell()

    def end_all(self, error: JobError | None = None) -> None:
        """Hear that no more will come: all is there that has not failed, or nothing else is, because of `error`."""
        for number, arrival in enumerate(self._arrivals):
            if not arrival.has_ended:
                self.ended(number, error)

    def _matching(self, folder: str | None, name: str) -> list[_Arrival]:
        kind, subfolder = (None, PurePosixPath()) if folder is None else _split(folder)
        path = subfolder / name.replace("\\", "/")
        return [arrival for arrival in self._arrivals if arrival.may_be(kind, path)]


def error_of(error: JobError) -> ProvisioningFailed:
    """Return the exception that an item's failure stands for."""
    kind = DownloadFailed if error.code == DownloadFailed.code else ProvisioningFailed
    return kind(error.message, hint=error.hint, details=error.details, retryable=error.retryable)


def _split(destination: str) -> tuple[str, PurePosixPath]:
    first, *rest = PurePosixPath(destination).parts or ("",)
    return kind_of_folder(first) or first, PurePosixPath(*rest)
