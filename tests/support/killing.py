"""Processes that are killed at a point of their work which the interpreter's audit hooks tell of, before it is made."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

IsPoint = Callable[[str, tuple[Any, ...]], bool]


def run_and_die(work: Callable[[], Coroutine[Any, Any, None]], is_point: IsPoint, number: int) -> bool:
    """Do some work in a fork of this process that is killed with SIGKILL at a point; return whether it came so far.

    Args:
        work: What is done.
        is_point: Whether an audit event, with its arguments, is a point.
        number: The point at which it is killed; the first is 1.
    """
    pid = os.fork()
    if pid == 0:
        seen = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if is_point(event, arguments):
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        asyncio.run(work())
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
