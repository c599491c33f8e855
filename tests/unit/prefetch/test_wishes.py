"""Which model comes next."""

import threading
from collections.abc import Callable
from pathlib import Path

from comfyworker.prefetch.order import ModelFile
from comfyworker.prefetch.wishes import Rank, Wish, Wishes


def file(name: str) -> ModelFile:
    """Return a file that needs not be there."""
    return ModelFile(kind="loras", name=name, path=Path("/volume") / name, size_bytes=1, mtime_ns=1, device=1)


def name_of(wish: Wish | None) -> str | None:
    """Return the name of the file that is wanted."""
    return wish.file.name if wish is not None else None


def take(wishes: Wishes, within_s: float = 0.0) -> str | None:
    """Return the name of the next wish, which is fulfilled by that."""
    wish = wishes.next(within_s)
    if wish is not None:
        wishes.done(wish)
    return name_of(wish)


def test_jobs_go_first_in_their_order() -> None:
    """Then what was used, then what config.yml asks for."""
    wishes = Wishes()
    wishes.add(file("config"), Rank.CONFIG)
    wishes.add(file("recent"), Rank.RECENT)
    wishes.add(file("job 1"), Rank.JOB)
    wishes.add(file("job 2"), Rank.JOB)
    assert [take(wishes) for _ in range(5)] == ["job 1", "job 2", "recent", "config", None]


def test_a_job_makes_a_wish_urgent() -> None:
    """A file that is wanted twice is one wish, of the higher rank, behind the jobs that came before."""
    wishes = Wishes()
    wishes.add(file("a"), Rank.RECENT)
    wishes.add(file("b"), Rank.RECENT)
    wishes.add(file("c"), Rank.JOB)
    wishes.add(file("b"), Rank.JOB)
    wishes.add(file("b"), Rank.CONFIG)
    assert [take(wishes) for _ in range(4)] == ["c", "b", "a", None]


def test_what_no_job_needs_any_more() -> None:
    """It is given up, and told first so that it is let go of; or it is copied later all the same."""
    wishes = Wishes()
    wishes.add(file("dropped"), Rank.JOB)
    wishes.add(file("kept"), Rank.JOB)
    wishes.add(file("twice"), Rank.JOB)
    wishes.add(file("twice"), Rank.JOB)
    wishes.let_go(file("dropped"), keeps=False)
    wishes.let_go(file("kept"), keeps=True)
    wishes.let_go(file("twice"), keeps=False)
    wishes.let_go(file("never wanted"), keeps=True)
    given_up = wishes.next(0.0)
    assert given_up is not None
    assert (given_up.file.name, given_up.is_given_up) == ("dropped", True)
    assert wishes.forget_given_up(given_up)
    assert [take(wishes) for _ in range(3)] == ["twice", "kept", None]


def test_what_is_wanted_again_goes_on() -> None:
    """Also if whoever works at it has just seen that it was given up."""
    wishes = Wishes()
    wishes.add(file("a"), Rank.JOB)
    wishes.let_go(file("a"), keeps=False)
    wish = wishes.next(0.0)
    assert wish is not None
    wishes.add(file("a"), Rank.JOB)
    assert not wishes.forget_given_up(wish)
    assert wishes.next(0.0) is wish


def test_a_wish_that_is_put_off_lets_others_go_first() -> None:
    """It comes back by itself."""
    wishes = Wishes()
    wishes.add(file("a"), Rank.JOB)
    wishes.add(file("b"), Rank.CONFIG)
    first = wishes.next(0.0)
    assert first is not None
    first.not_before = float("inf")
    assert take(wishes) == "b"
    assert wishes.next(0.0) is None
    first.not_before = 0.0
    assert wishes.next(0.0) is first


def test_waiting_ends_with_a_wish_a_wake_or_the_end() -> None:
    """Each from another thread."""
    wishes = Wishes()
    heard: list[str | None] = []
    acts: list[Callable[[], None]] = [lambda: wishes.add(file("a"), Rank.JOB), wishes.wake, wishes.end]
    for act in acts:
        waiting = threading.Thread(target=lambda: heard.append(take(wishes, 60.0)))
        waiting.start()
        act()
        waiting.join()
    assert heard == ["a", None, None]
    assert wishes.is_ended
