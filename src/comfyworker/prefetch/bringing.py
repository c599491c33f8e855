"""How a wish for a model is fulfilled, a window of its file at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog

from comfyworker.prefetch.copies import LocalCopies, is_full
from comfyworker.prefetch.draft import Elsewhere, NoRoom
from comfyworker.prefetch.figures import Figures
from comfyworker.prefetch.order import ModelFile
from comfyworker.prefetch.recent import Named
from comfyworker.prefetch.transfer import Changed, CopyTransfer, Damaged, Readers, Transfer
from comfyworker.prefetch.warmth import Warmth
from comfyworker.prefetch.wishes import Rank, Wish, Wishes

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_LOOK_AGAIN_S: Final = 1.0
"""When to look whether another worker has made a copy: nothing tells when it has."""


class Bringing:
    """Fulfils wishes; for one thread."""

    def __init__(
        self,
        wishes: Wishes,
        warmth: Warmth,
        figures: Figures,
        *,
        sha256_of: Callable[[ModelFile], str | None],
        in_use: Callable[[], frozenset[Named]],
    ) -> None:
        """Prepare.

        Args:
            wishes: Where wishes are done with.
            warmth: What counts the memory.
            figures: Where it is counted what was done.
            sha256_of: What was noted of a file's content; blocks.
            in_use: The models of jobs that run or wait: their copies stay.
        """
        self.copies: LocalCopies | None = None
        self._wishes = wishes
        self._warmth = warmth
        self._figures = figures
        self._sha256_of = sha256_of
        self._in_use = in_use
        self._readers = Readers()
        self._damaged: set[tuple[str, int, int]] = set()
        self._told: set[tuple[str, int, int]] = set()
        """Files of which the log knows already that there is no room for them."""
        self._begun_at: dict[tuple[str, int, int], float] = {}

    def advance(self, wish: Wish) -> None:
        """Do one step towards a wish; blocks for as long as the disk takes for a window."""
        if wish.is_given_up and self._wishes.forget_given_up(wish):
            self._drop(wish)
            return
        try:
            if wish.transfer is None:
                wish.transfer = self._begin(wish)
            if wish.transfer is None or self._step(wish, wish.transfer):
                self._drop(wish)
        except Elsewhere:
            wish.not_before = time.monotonic() + _LOOK_AGAIN_S
        except NoRoom as reason:
            self._go_without_copy(wish, str(reason))
        except Changed:
            log.info("prefetch.model_changed", kind=wish.file.kind, model=wish.file.name)
            self._drop(wish)
        except Damaged:
            self._damaged.add(wish.file.content)
            log.error(  # noqa: TRY400  # where it was noticed tells nothing
                "prefetch.model_damaged",
                kind=wish.file.kind,
                model=wish.file.name,
                advice="`comfyworker models verify` names it; fetch it again.",
            )
            self._drop(wish)
        except OSError as error:
            if is_full(error):  # only a copy is written
                self._go_without_copy(wish, error.strerror or "the disk is full")
            else:
                log.warning(
                    "prefetch.failed",
                    kind=wish.file.kind,
                    model=wish.file.name,
                    reason=error.strerror or "it cannot be read",
                )
                self._drop(wish)

    def close(self) -> None:
        """Drop everything that is not whole."""
        for wish in self._wishes.take_all():
            self._drop(wish)
        self._readers.close()

    def _begin(self, wish: Wish) -> Transfer | None:
        """Begin with a file; None if it is near already, or shall not be brought nearer.

        Raises:
            NoRoom: there is none for a copy.
            Elsewhere: another worker copies it.
            OSError: it cannot be read, or the copy not written.
        """
        file, copies = wish.file, self.copies
        self._begun_at[file.content] = time.monotonic()
        if copies is not None and not wish.is_only_read:
            if not self._is_far(copies, file) or copies.has(file):
                return None
            noted = self._sha256_of(file)
            draft = copies.begin(file, keep=self._in_use(), evicts=wish.is_used)
            return CopyTransfer(file, self._readers, copies, draft, sha256_hex=noted)
        if self._warmth.has(file) or not self._admit(wish):
            return None
        return Transfer(file, self._readers)

    def _is_far(self, copies: LocalCopies, file: ModelFile) -> bool:
        """Tell whether a copy would bring anything, and the right content."""
        is_elsewhere = copies.order.is_on_volume(file.path) or file.device != copies.device
        return is_elsewhere and file.content not in self._damaged

    def _step(self, wish: Wish, transfer: Transfer) -> bool:
        """Read a window; return whether nothing is left to do."""
        is_copy = isinstance(transfer, CopyTransfer)
        if not is_copy and not self._admit(wish):
            return True
        before_bytes = transfer.done_bytes
        is_read = transfer.step()
        if is_read:
            transfer.finish()
            if not is_copy:
                self._warmth.keep(wish.file)
            self._tell_done(wish.file, is_copy=is_copy)
        if not is_copy:
            self._figures.read(transfer.done_bytes - before_bytes)
        return is_read

    def _admit(self, wish: Wish) -> bool:
        """Tell whether there is memory for a file, and say so if there is not."""
        is_admitted = self._warmth.admit(wish.file, displaces=wish.rank is Rank.JOB)
        if not is_admitted and self._is_news(wish.file):
            log.info(
                "prefetch.memory_short", kind=wish.file.kind, model=wish.file.name, size_bytes=wish.file.size_bytes
            )
        return is_admitted

    def _tell_done(self, file: ModelFile, *, is_copy: bool) -> None:
        if is_copy:
            self._figures.copied(file.size_bytes)
        log.info(
            "prefetch.model_copied" if is_copy else "prefetch.model_read",
            kind=file.kind,
            model=file.name,
            size_bytes=file.size_bytes,
            duration_s=round(time.monotonic() - self._begun_at.get(file.content, time.monotonic()), 3),
        )

    def _go_without_copy(self, wish: Wish, reason: str) -> None:
        """Read what a job wants into memory instead; let what nobody waits for be."""
        if self._is_news(wish.file):
            log.info("prefetch.not_copied", kind=wish.file.kind, model=wish.file.name, reason=reason)
        if wish.rank is not Rank.JOB:
            self._drop(wish)
            return
        self._close(wish)
        wish.is_only_read = True

    def _is_news(self, file: ModelFile) -> bool:
        is_news = file.content not in self._told
        self._told.add(file.content)
        return is_news

    def _drop(self, wish: Wish) -> None:
        is_partial = wish.transfer is not None and wish.transfer.done_bytes < wish.file.size_bytes
        if is_partial and not isinstance(wish.transfer, CopyTransfer):
            self._warmth.forget(wish.file)
        self._close(wish)
        self._begun_at.pop(wish.file.content, None)
        self._wishes.done(wish)

    def _close(self, wish: Wish) -> None:
        if wish.transfer is not None:
            wish.transfer.close()
            wish.transfer = None
