"""How many jobs a worker of RunPod's takes."""

import asyncio

import pytest

from comfyworker.hosts.runpod.gate import LOST_AFTER_S, MOST_ASIDE, MOST_EXTRA, MOST_LEAVING, Gate


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


def test_nothing_is_taken_before_comfyui_is_ready() -> None:
    """A gate begins shut, and opens for the places in ComfyUI's queues and one job more."""
    gate = Gate()
    assert gate.room == 0
    gate.open(2)
    assert gate.room == 3


def test_a_job_has_its_place_until_it_leaves_comfyui() -> None:
    """From when it is handed over; delivering its files takes no place."""
    gate = Gate()
    gate.open(1)
    gate.hand_over(["a", "b"])
    assert (gate.room, gate.running) == (0, 2)
    gate.enter("a")
    assert gate.room == 0
    gate.leave_comfyui("a")
    gate.leave_comfyui("a")
    assert (gate.room, gate.running) == (1, 2)
    gate.answer("a")
    assert (gate.room, gate.running) == (1, 1)
    gate.drop("b")
    assert (gate.room, gate.running) == (2, 0)


def test_jobs_that_wait_for_models_take_no_place() -> None:
    """Others are taken meanwhile; not for any number of them, and only until they come back."""
    gate = Gate()
    gate.open(1)
    gate.hand_over(["a", "b"])
    gate.enter("a")
    gate.stand_aside("a")
    assert gate.room == 1
    gate.come_back("a")
    assert gate.room == 0
    waiting = [f"waits-{number}" for number in range(MOST_ASIDE + 1)]
    gate.hand_over(waiting)
    for job_id in waiting:
        gate.enter(job_id)
        gate.stand_aside(job_id)
    gate.leave_comfyui("a")
    assert gate.room == 0
    gate.leave_comfyui(waiting[0])
    assert gate.room == 1


@pytest.mark.parametrize(("job_s", "extra"), [(1.0, 0), (0.2, 0), (0.1, 2), (0.05, 3), (0.001, MOST_EXTRA)], ids=str)
def test_short_jobs_are_held_in_larger_numbers(job_s: float, extra: int) -> None:
    """As many as run while one is fetched, which took 50 ms at the platform and 100 ms in the SDK; four at most."""
    clock = Clock()
    gate = Gate(clock=clock)
    gate.open(2)
    gate.note_poll(30.0)  # waited for a job to come at all
    gate.note_poll(0.05)
    for number in range(5):
        gate.hand_over([f"{number}"])
        clock.now_s += 0.1
        gate.enter(f"{number}")
        clock.now_s += job_s
        gate.leave_comfyui(f"{number}")
        gate.drop(f"{number}")
    assert gate.extra == extra
    assert gate.room == 3 + extra


def test_slow_deliveries_stop_the_taking_at_last() -> None:
    """Eight jobs may be past ComfyUI while new ones are taken, unsent answers included; a further one takes a place."""
    gate = Gate(clock=lambda: 0.0)
    gate.open(1)
    for number in range(MOST_LEAVING + 1):
        gate.enter(f"{number}")
        gate.leave_comfyui(f"{number}")
    assert gate.room == 1
    gate.answer("0")
    assert gate.room == 1
    gate.drop("0")
    assert gate.room == 2


def test_a_closed_gate_stays_closed() -> None:
    """Whatever becomes of the jobs that are in."""
    gate = Gate()
    gate.open(1)
    gate.close()
    gate.open(2)
    assert (gate.room, gate.is_closed) == (0, True)


def test_nothing_is_taken_while_comfyui_is_started_anew() -> None:
    """Without places there is no room for the job more, either."""
    gate = Gate()
    gate.open(2)
    gate.open(0)
    assert gate.room == 0
    gate.open(4)
    assert gate.room == 5


async def test_one_job_in_its_life() -> None:
    """With REFRESH_WORKER the gate lets one job in, and closes behind it."""
    gate = Gate(takes_one=True)
    gate.open(8)
    assert await gate.wait_room() == 1
    gate.hand_over(["a"])
    assert (gate.is_closed, await gate.wait_room()) == (True, 0)


async def test_room_is_waited_for() -> None:
    """Whoever waits is woken by the change that makes room, or by the end."""
    gate = Gate()
    gate.open(1)
    gate.hand_over(["a", "b"])
    async with asyncio.TaskGroup() as group:
        room = group.create_task(gate.wait_room())
        closed = group.create_task(gate.wait_closed())
        answered = group.create_task(gate.wait_answered())
        await asyncio.sleep(0)
        gate.enter("a")
        gate.leave_comfyui("a")
        assert await room == 1
        assert not closed.done()
        gate.close()
        await closed
        gate.drop("b")
        assert not answered.done()
        gate.answer("a")
        await answered


def test_a_job_that_the_sdk_loses_does_not_take_a_place_for_ever() -> None:
    """What was handed over and does not come to its handler is forgotten; what came there is not."""
    clock = Clock()
    gate = Gate(clock=clock)
    gate.open(1)
    gate.hand_over(["a", "b"])
    gate.enter("a")
    clock.now_s += LOST_AFTER_S
    assert gate.forget_lost() == []
    clock.now_s += 0.1
    assert gate.forget_lost() == ["b"]
    assert (gate.room, gate.running, gate.holds("b")) == (1, 1, False)


def test_a_job_is_held_until_its_answer_is_sent() -> None:
    """From when it is handed over; its handler knows it later."""
    gate = Gate()
    gate.hand_over(["a"])
    assert (gate.holds("a"), gate.has_entered("a")) == (True, False)
    gate.enter("a")
    assert gate.has_entered("a")
    gate.leave_comfyui("a")
    assert gate.has_entered("a")
    gate.answer("a")
    assert gate.has_entered("a")
    gate.drop("a")
    assert (gate.holds("a"), gate.has_entered("a")) == (False, False)
