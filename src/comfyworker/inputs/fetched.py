"""What came of fetching: the bytes of each URL, or why there are none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class FetchFault(Exception):
    """Why a file could not be fetched, in words that may be shown."""

    def __init__(self, reason: str, *, code: str, hint: str | None = None, may_pass: bool = False) -> None:
        """Keep the reason; `may_pass` tells whether another attempt may succeed."""
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.hint = hint
        self.may_pass = may_pass


class Fetched(NamedTuple):
    """What became of each URL: its bytes, or what went wrong."""

    data: Mapping[str, bytes]
    faults: Mapping[str, FetchFault]
