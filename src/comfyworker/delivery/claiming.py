"""Free names in a folder that others write to as well."""

from __future__ import annotations

import os
from pathlib import Path

_NAME_BYTES = 255  # the longest name on the file systems in use


def claim(folder: Path, name: str) -> Path:
    """Return a path in `folder` that was free until now, taken by an empty file so that nobody else takes it.

    It has the file's own name, or the next free one with a number before its extension, cut where it is too long.

    Raises:
        OSError: the folder cannot be written.
    """
    stem, suffix = os.path.splitext(name)  # noqa: PTH122  # Path.stem would split .tar.gz and drop leading dots
    number = 1
    while True:
        path = folder / _joined(stem, suffix if number == 1 else f"-{number}{suffix}")
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return path


def _joined(stem: str, mark: str) -> str:
    room_bytes = _NAME_BYTES - len(os.fsencode(mark))
    encoded = os.fsencode(stem)
    return stem + mark if len(encoded) <= room_bytes else encoded[:room_bytes].decode(errors="ignore") + mark
