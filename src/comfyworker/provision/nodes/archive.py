"""Unpacking a custom node's archive; nothing in it can land outside of its folder or fill the disk."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from pathlib import Path, PurePosixPath

from comfyworker.errors import NodeInstallFailed

MAX_FILES = 50_000
MAX_BYTES = 4_000_000_000
_CHUNK_BYTES = 1024 * 1024


def extract_archive(archive: Path, folder: Path) -> dict[str, str]:
    """Unpack a ZIP into `folder`; return each file's name with its SHA-256.

    Raises:
        NodeInstallFailed: it is no whole ZIP, holds names that lead out of the folder or links, or is too large.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = [(member, _safe_name(member)) for member in zipped.infolist() if not member.is_dir()]
            if len(members) > MAX_FILES or sum(member.file_size for member, _ in members) > MAX_BYTES:
                raise _refuse(f"it holds more than {MAX_FILES} files or {MAX_BYTES // 1_000_000_000} GB")
            return {name: _extract(zipped, member, folder / name) for member, name in members}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        # zipfile says RuntimeError for a member with a password, zlib's errors come as BadZipFile or OSError.
        raise _refuse(f"it is no whole ZIP ({type(error).__name__})") from error


def _safe_name(member: zipfile.ZipInfo) -> str:
    name = member.filename.replace("\\", "/")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0] or "\0" in name:
        raise _refuse("it holds a name that leads out of the folder")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise _refuse("it holds a link")
    if ".git" in path.parts:
        raise _refuse("it holds a .git folder")
    return path.as_posix()


def _extract(zipped: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> str:
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    with zipped.open(member) as source, target.open("xb") as file:
        while chunk := source.read(_CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise _refuse("a file in it is larger than it says")
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _refuse(reason: str) -> NodeInstallFailed:
    return NodeInstallFailed(
        f"the registry's archive cannot be used: {reason}", hint="Try another version, or name its git repository."
    )
