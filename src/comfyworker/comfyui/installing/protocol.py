"""How an install tells what it does."""

from __future__ import annotations

from typing import Protocol


class InstallReporter(Protocol):
    """Shows an install to the one who waits for it."""

    def step(self, number: int, total: int, title: str) -> None:
        """Called when a step begins; the one before it is over then."""

    def line(self, text: str) -> None:
        """Called for each line of output of the program that works now; only the newest matters."""

    def note(self, text: str) -> None:
        """Called with a sentence that the user should be able to read afterwards."""
