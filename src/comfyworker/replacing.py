"""Files written in one step: whoever reads one finds the old content or the new one, whole."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def replace_file(path: Path, content: bytes, *, mode: int | None = None, is_durable: bool = False) -> None:
    """Write a file beside itself and put it into its place; what was there is gone in the same moment. Blocks.

    The draft has a name of its own: on network disks several workers may write at the same time, and the last one wins.

    Args:
        path: The file; its folder must be there.
        content: All that will be in it.
        mode: Its rights; None is what the process gives to new files.
        is_durable: Whether the content is on the disk before it takes its place, so that the file is whole also after
            a loss of power.

    Raises:
        OSError: it cannot be written; what was there is as it was, and nothing is left beside it.
    """
    draft = path.with_name(f".{path.name.lstrip('.')}.{secrets.token_hex(4)}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode & 0o700)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        if mode is not None:
            draft.chmod(mode)
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
