"""A worker's start and its phases."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from comfyworker.hosts.startup import FIRST_JOB, Startup, process_age_s
from comfyworker.jobs import ColdStart

_TICK_S = 0.02
"""Two of the kernel's ticks, in which it notes when a process began."""


def names_of(start: ColdStart) -> list[str]:
    """Return the names of a start's phases."""
    return [phase.name for phase in start.phases]


def test_what_was_before_us_is_the_phase_process() -> None:
    """The interpreter and its imports count, too."""
    startup = Startup(begun_at=time.time() - 50)
    process = startup.so_far().phases[0]
    assert (process.name, process.begun_s) == ("process", 0.0)
    assert 50 <= process.ended_s < 60


def test_phases_overlap_and_stand_in_the_order_of_their_begin() -> None:
    """What waits for what is seen in the figures."""
    startup = Startup()
    with startup.phase("comfyui"), startup.phase("sdk"):
        pass
    start = startup.so_far()
    comfyui, sdk = start.phases[1:]
    assert names_of(start) == ["process", "comfyui", "sdk"]
    assert comfyui.begun_s <= sdk.begun_s <= sdk.ended_s <= comfyui.ended_s <= start.total_s


def test_it_is_ready_when_asked_for_and_all_phases_have_ended() -> None:
    """Whoever says it first does not cut off a phase that is still open or only expected."""
    startup = Startup()
    startup.expect("benchmark")
    startup.begin("server")
    startup.ready()
    assert not startup.is_ready
    startup.end("server")
    assert not startup.is_ready
    with startup.phase("benchmark"):
        pass
    assert startup.is_ready


def test_a_phase_beside_the_start_is_not_waited_for() -> None:
    """Models may come for an hour; the worker serves meanwhile, and its start is over."""
    startup = Startup()
    startup.begin("models", is_awaited=False)
    startup.ready()
    assert startup.is_ready
    startup.end("models")
    assert names_of(startup.so_far()) == ["process", "models"]


def test_nothing_is_ready_that_nobody_calls_ready() -> None:
    """Phases follow upon each other, so none of them is the last by itself."""
    startup = Startup()
    with startup.phase("settings"):
        pass
    assert not startup.is_ready


def test_ready_is_logged_once_with_every_phase() -> None:
    """The log has begin and end of each phase, the total, and what it waited for at last."""
    with capture_logs() as logs:
        startup = Startup(begun_at=time.time() - 3)
        with startup.phase("comfyui"):
            pass
        startup.ready()
        startup.ready()
        with startup.phase("late"):
            pass
    (event,) = logs
    assert (event["event"], event["log_level"], event["last"]) == ("startup.ready", "info", "comfyui")
    assert [phase["name"] for phase in event["phases"]] == ["process", "comfyui"]
    assert event["total_s"] == startup.so_far().total_s >= 3
    assert 0 <= event["unaccounted_s"] < 1


def test_time_that_nobody_used_is_told() -> None:
    """Seconds without a phase are a wait without need, or a phase that nobody noted."""
    startup = Startup()
    startup._zero -= 100  # a hundred seconds pass
    with capture_logs() as logs:
        with startup.phase("comfyui"):
            pass
        startup.ready()
    assert 100 <= logs[0]["unaccounted_s"] < 110


def test_the_first_answer_takes_the_start_and_no_second_one_does() -> None:
    """Before it is ready, nobody gets it."""
    startup = Startup()
    assert startup.take_for_answer() is None
    startup.ready()
    begun_s = startup.now_s()
    taken = startup.take_for_answer(job_begun_s=begun_s)
    assert taken is not None
    assert names_of(taken) == ["process", FIRST_JOB]
    assert taken.phases[1].begun_s == round(begun_s, 3)
    assert startup.take_for_answer(job_begun_s=begun_s) is None
    assert names_of(startup.so_far()) == ["process", FIRST_JOB]


def test_only_one_of_many_threads_takes_it() -> None:
    """Jobs that end at the same time do not both have it."""
    startup, taken = Startup(), []
    startup.ready()
    barrier = threading.Barrier(8)

    def take() -> None:
        barrier.wait()
        taken.append(startup.take_for_answer())

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [start is None for start in taken].count(False) == 1


def test_a_phase_that_fails_ends_all_the_same() -> None:
    """An error is not kept from anybody."""
    startup = Startup()
    with pytest.raises(ZeroDivisionError), startup.phase("sdk"):
        raise ZeroDivisionError
    assert names_of(startup.so_far()) == ["process", "sdk"]


def test_the_age_counts_from_the_begin_of_the_process() -> None:
    """What the interpreter did before us is in it, and so is a shell script that made way for us with `exec`."""
    code = (
        "import time; from comfyworker.hosts.startup import process_age_s; "
        "before, age, after = time.monotonic(), process_age_s(), time.monotonic(); print(before - age, after - age)"
    )
    earliest_s = time.monotonic()
    with subprocess.Popen(
        ["sh", "-c", 'read go; exec "$0" -c "$1"', sys.executable, code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as shell:
        latest_s = time.monotonic()
        not_before_s, not_after_s = map(float, shell.communicate("go\n")[0].split())
    assert not_before_s <= latest_s + _TICK_S
    assert not_after_s >= earliest_s - _TICK_S


@pytest.mark.parametrize(
    "stat",
    [None, "", "1 (sh) S 0", "1 (a) b) c) S " + " ".join(["0"] * 40), "1 (sh) S " + " ".join(["9" * 15] * 40)],
    ids=["missing", "empty", "short", "no time", "future"],
)
def test_without_a_begin_the_time_worked_counts(tmp_path: Path, stat: str | None) -> None:
    """There is no /proc everywhere, and what emulates it may say nonsense."""
    (tmp_path / "self").mkdir()
    if stat is not None:
        (tmp_path / "self" / "stat").write_text(stat)
    worked_s = time.process_time()
    assert worked_s <= process_age_s(proc=tmp_path) <= time.process_time()
