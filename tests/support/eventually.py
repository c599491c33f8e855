"""Waiting for what nothing notifies a test of."""

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, overload

T = TypeVar("T")
PATIENCE = 3.0
"""How much longer is waited than a test says: a busy machine is no fault, and success is not held up."""


@overload
async def eventually(
    check: Callable[[], Coroutine[Any, Any, T]], *, within_s: float = ..., interval_s: float = ...
) -> T: ...


@overload
async def eventually(check: Callable[[], T], *, within_s: float = ..., interval_s: float = ...) -> T: ...


async def eventually(check: Callable[[], Any], *, within_s: float = 10.0, interval_s: float = 0.01) -> Any:
    """Return what `check` returns once that is true; `check` may be async.

    An AssertionError in `check` counts as "not yet".

    Args:
        check: What is to become true.
        within_s: Seconds in which that happens on a machine that has nothing else to do.
        interval_s: Seconds between two looks.

    Raises:
        AssertionError: `check` was not true in time; says what it returned or raised last.
    """
    limit_s = PATIENCE * within_s
    deadline = time.monotonic() + limit_s
    while True:
        try:
            answer = check()
            state = await answer if inspect.isawaitable(answer) else answer
            last: object = state
            if state:
                return state
        except AssertionError as error:
            last = error
        if time.monotonic() >= deadline:
            message = f"not true within {limit_s:g} s; the last state seen: {last!r}"
            raise AssertionError(message)
        await asyncio.sleep(interval_s)
