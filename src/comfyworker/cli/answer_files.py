"""The files inside an answer: saved, or shortened where a person reads the answer on a terminal."""

from __future__ import annotations

import base64
from pathlib import Path

from pydantic import JsonValue

from comfyworker.delivery.claiming import claim
from comfyworker.errors import DeliveryFailed
from comfyworker.jobs import Artifact


class AnswerFiles:
    """Knows the files that jobs delivered inside their answers, whatever dialect these are in."""

    def __init__(self) -> None:
        """Begin with none."""
        self._inside: list[tuple[str, str]] = []

    def note(self, artifact: Artifact) -> None:
        """Take note of a file that was delivered; one that has a URL is not inside the answer."""
        if artifact.data:
            self._inside.append((artifact.name, artifact.data))

    def forget(self) -> None:
        """Forget what was noted."""
        self._inside.clear()

    def saved(self, answer: dict[str, JsonValue], folder: Path) -> dict[str, JsonValue]:
        """Return `answer` with the path of each file instead of its bytes; the files are in `folder` then.

        Nothing there is overwritten.

        Raises:
            DeliveryFailed: the folder cannot be written.
        """
        instead: dict[str, str] = {}
        for name, data in self._inside:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                path = claim(folder, Path(name).name)
                path.write_bytes(base64.b64decode(data))
            except OSError as error:
                reason = (error.strerror or "it cannot be written").lower()
                raise DeliveryFailed(
                    f"{name} could not be saved in {folder.name}: {reason}",
                    hint="Choose a folder that can be written.",
                ) from error
            instead[data] = str(path)
        return _replaced(answer, instead)

    def shortened(self, answer: dict[str, JsonValue]) -> dict[str, JsonValue]:
        """Return `answer` with a few words instead of each file's bytes."""
        words = "({:,} characters of base64; --output DIR saves the file)"
        return _replaced(answer, {data: words.format(len(data)) for _, data in self._inside})


def _replaced(document: dict[str, JsonValue], instead: dict[str, str]) -> dict[str, JsonValue]:
    return {key: _replaced_in(value, instead) for key, value in document.items()}


def _replaced_in(value: JsonValue, instead: dict[str, str]) -> JsonValue:
    if isinstance(value, str):
        return instead.get(value, value)
    if isinstance(value, dict):
        return _replaced(value, instead)
    if isinstance(value, list):
        return [_replaced_in(item, instead) for item in value]
    return value
