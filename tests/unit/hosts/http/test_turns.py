"""Requests begin a few in each round of the event loop."""

import asyncio
from collections import Counter

from starlette.types import Receive, Scope, Send

from comfyworker.hosts.http.turns import Turns


class Rounds:
    """Counts the rounds of the event loop, and how many requests began in each."""

    def __init__(self) -> None:
        self.began: Counter[int] = Counter()
        self.paths: list[str] = []
        self.number = 0

    async def count(self) -> None:
        """Count until cancelled."""
        while True:
            await asyncio.sleep(0)  # one round of the loop, which is what is counted
            self.number += 1

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note that a request has begun."""
        del receive, send
        self.began[self.number] += 1
        self.paths.append(scope["path"])


async def ask(turns: Turns, path: str) -> None:
    """Send one request."""

    async def never() -> dict[str, object]:
        raise AssertionError

    async def nothing(message: object) -> None:
        del message

    await turns({"type": "http", "path": path}, never, nothing)


async def play(paths: list[str], *, each_round: int) -> Rounds:
    """Send one request to each path, all at once."""
    rounds = Rounds()
    turns = Turns(rounds.app, each_round=each_round)
    async with asyncio.TaskGroup() as group:
        counting = group.create_task(rounds.count())
        asking = [group.create_task(ask(turns, path)) for path in paths]
        await asyncio.wait(asking)
        counting.cancel()
    return rounds


async def test_a_crowd_begins_a_few_at_a_time() -> None:
    """Of a hundred that come at once, no round begins more than may; all begin, first come, first served."""
    paths = [f"/run/{number}" for number in range(100)]
    rounds = await play(paths, each_round=4)
    assert max(rounds.began.values()) <= 4
    assert rounds.paths == paths


async def test_a_probe_does_not_wait() -> None:
    """/health begins at once, whatever crowd came before it."""
    rounds = await play([*(["/run"] * 50), "/health"], each_round=2)
    assert rounds.paths.index("/health") <= 2


async def test_who_goes_leaves_its_turn() -> None:
    """A request that is cancelled while it waits holds nobody up."""
    rounds = Rounds()
    turns = Turns(rounds.app, each_round=1)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(turns, f"/{number}")) for number in range(10)]
        await asyncio.sleep(0)  # they are in the queue now
        for task in tasks[1:9]:
            task.cancel()
    assert rounds.paths == ["/0", "/9"]
