"""What Swift remembers from one request to the next; a deployment has a memcached for it.

Without one, Swift asks for account and container anew with every part of an upload, which costs 10 ms of processor.
"""
# mypy: ignore-errors
# Runs in the store's environment, beside object_store_swift.py.

import json
import time as clock
from collections.abc import Callable, Iterable
from typing import Any


class Cache:
    """As much of Swift's `MemcacheRing` as its proxy calls."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[str, float]] = {}

    def get(self, key: str, raise_on_error: bool = False) -> Any:  # noqa: ARG002  # as Swift calls it
        """Return a value; None if there is none any more."""
        text, ends_at = self._kept.get(key, ("null", 0.0))
        if ends_at and ends_at < clock.monotonic():
            del self._kept[key]
            return None
        return json.loads(text)

    def set(self, key: str, value: Any, *, time: float = 0, **_options: Any) -> None:
        """Keep a value for `time` seconds; for ever without."""
        self._kept[key] = (json.dumps(value), clock.monotonic() + time if time else 0.0)

    def incr(self, key: str, delta: int = 1, time: float = 0) -> int:
        """Add to a number."""
        total = int(self.get(key) or 0) + delta
        self.set(key, total, time=time)
        return total

    def delete(self, key: str, server_key: str | None = None) -> None:  # noqa: ARG002  # as Swift calls it
        """Forget a value."""
        self._kept.pop(key, None)


def remembering(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Return an application of Swift's with a cache."""
    cache = Cache()

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        environ["swift.cache"] = cache
        return application(environ, start)

    return answer
