"""Which models are to be brought nearer, the most urgent first."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from enum import IntEnum

from comfyworker.prefetch.order import ModelFile
from comfyworker.prefetch.transfer import Transfer


class Rank(IntEnum):
    """How urgent a wish is."""

    JOB = 0
    """A job that runs or waits names the model."""
    RECENT = 1
    """One of the last jobs did."""
    CONFIG = 2
    """The config.yml asks for it."""


@dataclass(eq=False)
class Wish:
    """One model that is wanted."""

    file: ModelFile
    rank: Rank
    number: int
    """Its turn among those of its rank."""
    jobs: int = 0
    """How many jobs that run or wait name it."""
    is_used: bool = False
    """Whether a job has named it since it was wanted, one that has ended or not."""
    transfer: Transfer | None = None
    """What brings it, once that has begun."""
    not_before: float = 0.0
    """When to look at it again, by time.monotonic."""
    is_only_read: bool = False
    """Whether it is read into memory although models are copied: there is no room for it."""
    is_given_up: bool = False
    """Whether nobody wants it any more; whoever works at it lets go of its transfer."""


class Wishes:
    """The wishes of a worker: made by its jobs, fulfilled by one thread."""

    def __init__(self) -> None:
        """Begin with none."""
        self._changed = threading.Condition()
        self._wishes: dict[tuple[str, int, int], Wish] = {}
        self._number = 0
        self._is_woken = False
        self._is_ended = False

    @property
    def is_ended(self) -> bool:
        """Whether no wish is fulfilled any more."""
        return self._is_ended

    def add(self, file: ModelFile, rank: Rank) -> None:
        """Want a file; it gets the more urgent of two ranks."""
        with self._changed:
            wish = self._wishes.get(file.content)
            self._number += 1
            if wish is None:
                wish = self._wishes[file.content] = Wish(file, rank, self._number)
            elif rank < wish.rank:
                wish.rank, wish.number = rank, self._number
            wish.is_given_up = False  # what is half done goes on
            wish.jobs += rank is Rank.JOB
            wish.is_used = wish.is_used or rank is Rank.JOB
            self._changed.notify_all()

    def let_go(self, file: ModelFile, *, keeps: bool) -> None:
        """Hear that a job that wanted a file has ended; if it was the last, the wish is a recent one, or given up."""
        with self._changed:
            wish = self._wishes.get(file.content)
            if wish is None:
                return
            wish.jobs -= 1
            if wish.jobs <= 0:
                wish.rank, wish.is_given_up = Rank.RECENT, not keeps
                self._changed.notify_all()

    def wake(self) -> None:
        """Have `next` return, whatever it waits for."""
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()

    def end(self) -> None:
        """Have nothing fulfilled any more."""
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()

    def next(self, within_s: float) -> Wish | None:
        """Wait for a wish and return the most urgent; None when there is something else to do, or time has passed."""
        until = time.monotonic() + within_s
        with self._changed:
            while not self._is_ended and not self._is_woken:
                now = time.monotonic()
                ready = [wish for wish in self._wishes.values() if wish.not_before <= now or wish.is_given_up]
                if ready:
                    return min(ready, key=lambda wish: (not wish.is_given_up, wish.rank, wish.number))
                left_s = min([until, *(wish.not_before for wish in self._wishes.values())]) - now
                if until <= now:
                    return None
                self._changed.wait(max(left_s, 0.0))
            self._is_woken = False
            return None

    def done(self, wish: Wish) -> None:
        """Forget a wish: it is fulfilled, or cannot be."""
        with self._changed:
            self._wishes.pop(wish.file.content, None)

    def forget_given_up(self, wish: Wish) -> bool:
        """Forget a wish if it is still given up; return whether it was."""
        with self._changed:
            if wish.is_given_up:
                self._wishes.pop(wish.file.content, None)
            return wish.is_given_up

    def take_all(self) -> list[Wish]:
        """Return all wishes, and forget them."""
        with self._changed:
            wishes = list(self._wishes.values())
            self._wishes.clear()
            return wishes
