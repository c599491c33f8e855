"""Many calls at once leave room for others."""

import asyncio
import functools

from comfyworker.service.rounds import Rounds
from support.eventually import eventually


async def test_others_have_their_turn_between() -> None:
    """The calls are made in their order, a few in each round; what was ready before them is not held up by all."""
    loop, told = asyncio.get_running_loop(), list[object]()
    rounds = Rounds(loop, each_round=2)
    rounds.add(functools.partial(told.append, number) for number in range(5))
    loop.call_soon(told.append, "another")
    rounds.add([lambda: told.append("last")])
    await eventually(lambda: "last" in told)
    assert told == [0, 1, 2, 3, "another", 4, "last"]


async def test_a_few_are_called_at_once() -> None:
    """Nobody waits for a round in vain, and who adds more from within a call adds it behind the others."""
    told: list[object] = []
    rounds = Rounds(asyncio.get_running_loop(), each_round=3)
    rounds.add([lambda: rounds.add([lambda: told.append("more")]), lambda: told.append("second")])
    assert told == ["second"]
    await asyncio.sleep(0)
    assert told == ["second", "more"]
