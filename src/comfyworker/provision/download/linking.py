"""Equal files stored once: a file that is in another folder already is linked, not fetched."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

import structlog

from comfyworker.provision.download._faults import Fault, failed
from comfyworker.provision.download._files import place
from comfyworker.provision.download._looking import check_hash
from comfyworker.provision.download.addresses import shown_source
from comfyworker.provision.download.downloader import receipt_of
from comfyworker.provision.download.filenames import check_filename
from comfyworker.provision.download.records import Download, Receipt

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


async def link_known(
    download: Download, *, filename: str, sha256: str, known: Iterable[tuple[Path, Receipt]]
) -> Receipt | None:
    """Put a file where it is wanted by linking one of the same content; None if none is known, or none is as it was.

    Args:
        download: What is wanted, and in which folder.
        filename: Its name there.
        sha256: The content that it must have: the config's word, or the source's.
        known: Files that are there, and the receipts of when they came.

    Raises:
        DownloadFailed: the name is none, or the folder cannot be written.
        InsufficientStorage: the file system has no links, and no room for a copy.
    """
    try:
        target = download.folder / check_filename(filename)
        for path, receipt in known:
            if receipt.sha256 != sha256.lower() or path == target or not receipt.describes(path):
                continue
            try:
                return await _linked(path, target, download.url, sha256.lower())
            except Fault as fault:
                if fault.reason != "wrong_hash":
                    raise
                # The file was changed although its size and time were not: it is not the one that the receipt means.
                log.warning("provision.file_damaged", filename=path.name)
    except Fault as fault:
        raise failed(fault, shown_source(download.url)) from None
    return None


async def _linked(path: Path, target: Path, url: str, sha256: str) -> Receipt:
    digest = await place(
        path,
        target,
        check=functools.partial(check_hash, sha256),
        on_bytes=lambda _done: None,
        known=sha256,
    )
    log.info("provision.file_linked", filename=target.name)
    return receipt_of(target, digest, url=url)
