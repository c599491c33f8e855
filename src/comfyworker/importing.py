"""Imports that take long."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Keep the garbage collector out of a block that imports, and out of what that brought for good.

    Modules are no garbage, but looking through them again and again is a tenth of the time that importing takes.
    To be used before anything else runs: what is there at the end of the block is never looked at again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()
            gc.enable()
