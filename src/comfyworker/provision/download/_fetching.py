"""One file over the network, from the first question to its place in the folder."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import stamina
import structlog

from comfyworker.errors import InsufficientStorage
from comfyworker.finishing import in_thread
from comfyworker.provision.download._answers import Facts
from comfyworker.provision.download._faults import Fault, RangesLost, SourceChanged, backoff, disk_fault
from comfyworker.provision.download._hashing import PrefixHash, hash_file
from comfyworker.provision.download._looking import BEGINNING_BYTES, check_beginning, check_told, check_whole
from comfyworker.provision.download._parts import SILENT_S, Part, PartInUse, claim, is_in_use, key_of, read_journal
from comfyworker.provision.download._progress import OnBytes, Progress
from comfyworker.provision.download._source import Source
from comfyworker.provision.download._spans import Spans
from comfyworker.provision.download._transfer import Transfer
from comfyworker.provision.download.addresses import plain_url
from comfyworker.provision.download.filenames import check_filename
from comfyworker.provision.download.records import Download, Receipt
from comfyworker.provision.download.space import Room
from comfyworker.settings import ProvisionSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_MAX_STARTS = 3
"""How often a file is begun that changes while it is fetched."""
_LOOK_INTERVAL_S = 0.25


class Fetch:
    """Fetches one file; used once."""

    def __init__(
        self,
        download: Download,
        source: Source,
        name_in_url: Callable[[], str],
        *,
        settings: ProvisionSettings,
        room: Room,
        on_bytes: OnBytes | None = None,
    ) -> None:
        """Fetch `download` from `source`.

        Args:
            download: What is wanted.
            source: Where it is.
            name_in_url: Gives the name that is taken where the source gives none.
            settings: How often and in how many ranges.
            room: The disks' room, shared with other downloads.
            on_bytes: Who is told how far it is.
        """
        self._download = download
        self._source = source
        self._name_in_url = name_in_url
        self._settings = settings
        self._room = room
        self._on_bytes = on_bytes
        self._is_whole_only = False
        self._on_come: Callable[[], None] = lambda: None
        self._left_alone: set[Path] = set()

    async def look(self) -> tuple[str, Facts]:
        """Return the file's name, and what its source says of it, which is compared with what is wanted.

        Raises:
            Fault: there is no such file, or it is another one.
        """
        wanted_name = self._download.filename
        if wanted_name is not None:
            check_filename(wanted_name)
        retrying = stamina.retry_context(
            on=backoff, attempts=self._settings.attempts, timeout=None, wait_initial=0.5, wait_max=20.0
        )
        async for attempt in retrying:
            with attempt:
                facts = await self._source.resolve()
        check_told(self._download, facts)
        name = check_filename(wanted_name or facts.filename or self._name_in_url())
        return name, replace(facts, takes_ranges=facts.takes_ranges and not self._is_whole_only)

    async def run(self, *, on_come: Callable[[], None] = lambda: None) -> Receipt:
        """Fetch the file; what an earlier try left of it is not fetched again.

        If cancelled, what has come is kept for the next try.

        Args:
            on_come: Called once all of it has come: what remains is the disk's work, and the network is free.

        Raises:
            Fault: it cannot be fetched, or is not what was wanted.
            InsufficientStorage: the disk has no room for it.
        """
        self._on_come = on_come
        for _ in range(_MAX_STARTS):
            name, facts = await self.look()
            target = self._download.folder / name
            try:
                return await self._brought(target, facts)
            except SourceChanged:
                log.warning("provision.download_restarted", filename=name, reason="it changed at its source")
            except RangesLost:
                log.warning("provision.download_restarted", filename=name, reason="its host takes no more ranges")
                self._is_whole_only = True
        raise Fault("changes again and again while it is fetched", "changing", hint="Try again later.", may_pass=True)

    async def _brought(self, target: Path, facts: Facts) -> Receipt:
        with _on_disk(target.name):
            await in_thread(functools.partial(target.parent.mkdir, parents=True, exist_ok=True))
            found = await self._part(target, facts)
        if isinstance(found, Receipt):
            return found
        part = found
        is_kept = False
        try:
            missing = (facts.size_bytes or 0) - part.spans.total
            with self._room.reserved(target.parent, target.name, missing) as shrink, _on_disk(target.name):
                return await self._finished(part, facts, target, shrink)
        except SourceChanged:
            raise
        except Fault as fault:
            is_kept = fault.reason not in {"wrong_hash", "wrong_size", "not_a_model"}
            if fault.reason == "wrong_hash" and part.resumed_bytes:
                # What the earlier try left may be what is wrong.
                raise SourceChanged from fault
            raise
        except (asyncio.CancelledError, InsufficientStorage):
            is_kept = True
            raise
        finally:
            if not (is_kept and part.spans.total and facts.takes_ranges and facts.identity is not None):
                part.discard()
            part.close()

    async def _finished(self, part: Part, facts: Facts, target: Path, shrink: Callable[[int], None]) -> Receipt:
        progress = Progress(self._on_bytes, facts.size_bytes)

        def hear(done_bytes: int) -> None:
            progress.at(done_bytes)
            shrink(max((facts.size_bytes or 0) - done_bytes, 0))

        progress.tell(part.spans.total)
        transfer = Transfer(
            self._source,
            facts,
            part,
            connections=self._settings.connections,
            attempts=self._settings.attempts,
            on_bytes=hear,
        )
        digest = await _hashed(transfer, part, self._on_come)
        size = part.spans.prefix
        check_beginning(await in_thread(functools.partial(os.pread, part.descriptor, BEGINNING_BYTES, 0)))
        check_whole(self._download, facts, size, digest)
        found = await in_thread(functools.partial(part.finish, target))
        progress.tell(size)
        return self._receipt(target.name, facts, digest, found, transfer.fetched_bytes)

    def _receipt(self, name: str, facts: Facts, digest: str, found: os.stat_result, fetched_bytes: int) -> Receipt:
        return Receipt(
            url=plain_url(self._download.url),
            filename=name,
            size_bytes=found.st_size,
            sha256=digest,
            mtime_ns=found.st_mtime_ns,
            etag=facts.etag,
            fetched_bytes=fetched_bytes,
        )

    async def _part(self, target: Path, facts: Facts) -> Part | Receipt:
        """Return the file to write to, or the receipt of what another process brought meanwhile."""
        before = _state(target)
        take = functools.partial(
            claim,
            target.parent,
            target.name,
            key_of(plain_url(self._download.url)),
            identity=facts.identity if facts.takes_ranges else None,
            size_bytes=facts.size_bytes,
        )
        while True:
            try:
                return await in_thread(functools.partial(take, besides=frozenset(self._left_alone)))
            except PartInUse as used:
                log.info("provision.download_awaited", filename=target.name)
                await self._wait_for(used.path, facts)
            if _state(target) != before:
                receipt = await self._brought_by_another(target, facts)
                if receipt is not None:
                    return receipt

    async def _wait_for(self, path: Path, facts: Facts) -> None:
        """Wait until another process has ended its download; or until it is seen to do nothing any more."""
        progress = Progress(self._on_bytes, facts.size_bytes)
        loop = asyncio.get_running_loop()
        seen, seen_at = read_journal(path), loop.time()
        # Nothing tells one process of another's files; where locks do not reach, looking is all there is.
        while await in_thread(functools.partial(is_in_use, path)):
            await asyncio.sleep(_LOOK_INTERVAL_S)
            now = await in_thread(functools.partial(read_journal, path))
            if now is not None and now != seen:
                seen, seen_at = now, loop.time()
                progress.at(Spans(now.spans).total)
            if loop.time() - seen_at > SILENT_S:
                self._left_alone.add(path)
                return

    async def _brought_by_another(self, target: Path, facts: Facts) -> Receipt | None:
        """Return the receipt of a file that another process has just put there; None if it is not the one wanted."""
        try:
            found = await in_thread(target.stat)
            if facts.size_bytes is None or found.st_size != facts.size_bytes:
                return None
            digest = await hash_file(target)
            check_whole(self._download, facts, found.st_size, digest)
        except (OSError, Fault):
            return None
        Progress(self._on_bytes, facts.size_bytes).tell(found.st_size)
        return self._receipt(target.name, facts, digest, found, 0)


async def _hashed(transfer: Transfer, part: Part, on_come: Callable[[], None]) -> str:
    """Run a transfer; return the SHA-256 of what came, which is computed meanwhile."""
    prefix = PrefixHash(part)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(prefix.follow(transfer), name="hash what comes")
            await transfer.run()
    except BaseExceptionGroup as errors:
        raise _telling(errors) from None  # the others were only stopped, or failed alike
    on_come()
    return await prefix.finish()


def _telling(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one of several failures that has to be told: a full disk, then a changed file, then the first."""
    leaves = list(_leaves(group))
    for kind in (InsufficientStorage, SourceChanged, RangesLost):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0]


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


@contextlib.contextmanager
def _on_disk(filename: str) -> Iterator[None]:
    """Raise what the disk raises as what it means."""
    try:
        yield
    except OSError as error:
        raise disk_fault(error, filename) from None
