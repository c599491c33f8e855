"""What huggingface_hub's cache on this disk says of the Hub's files, without a network."""

from __future__ import annotations

import re
from pathlib import Path

from comfyworker.provision.download._faults import Fault
from comfyworker.provision.download._hub import endpoint_of, find_hub_file
from comfyworker.provision.download.records import Remote
from comfyworker.settings import ProvisionSettings

_SHA256 = re.compile(r"[0-9a-f]{64}")


def cached_remote(url: str, settings: ProvisionSettings) -> Remote | None:
    """Return what the Hub said of a file when it was last fetched into huggingface_hub's cache; None if it never was.

    Blocks. Wire source: huggingface_hub's cache: a file in `snapshots` is a link to a blob, which is called by its
    ETag: of a large file, that is its SHA-256.
    """
    try:
        file = find_hub_file(url, endpoint_of(settings))
    except (Fault, ValueError):
        return None
    if file is None:
        return None
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415  # heavy

    kind = None if file.kind == "model" else file.kind
    found = try_to_load_from_cache(file.repository, file.path, revision=file.revision, repo_type=kind)
    if not isinstance(found, str):  # also where it is noted that there is no such file
        return None
    blob = Path(found).resolve()
    try:
        size_bytes = blob.stat().st_size
    except OSError:
        return None
    sha256 = blob.name if _SHA256.fullmatch(blob.name) else None
    return Remote(filename=Path(file.path).name, size_bytes=size_bytes, etag=blob.name, sha256=sha256)
