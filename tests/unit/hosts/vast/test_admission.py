"""Which requests are taken now: 429 only where waiting helps, 503 where the worker cannot take any."""

import pytest

from comfyworker.errors import ComfyUIUnavailable, QueueFull, TooBusy
from comfyworker.hosts.http.vast.codes import Code, code_of_error
from comfyworker.hosts.vast.admission import Admission
from comfyworker.hosts.vast.ledger import Ledger


def rated(max_perf: float = 100.0) -> Ledger:
    """Return the ledger of a worker that is ready."""
    ledger = Ledger()
    ledger.loaded(max_perf=max_perf, loadtime_s=1.0)
    return ledger


def admission(ledger: Ledger, *, is_draining: bool = False) -> Admission:
    """Return an admission that lets 30 seconds of work wait."""
    return Admission(ledger, max_queue_time_s=30.0, is_draining=lambda: is_draining)


def test_work_up_to_the_limit_is_taken() -> None:
    """What is under way may take as long as the limit says, sessions not counted."""
    ledger = rated()
    ledger.receive(None, 3000.0)
    ledger.open_session(None, 1e9)
    admission(ledger).check()


def test_beyond_the_limit_is_a_429_that_says_when() -> None:
    """The client is told after how many seconds enough is done."""
    ledger = rated()
    ledger.receive(None, 4000.0)
    with pytest.raises(TooBusy, match="another 40 s") as caught:
        admission(ledger).check()
    assert code_of_error(caught.value) == Code(429, 10.0)
    admission(ledger).check_ready()


@pytest.mark.parametrize(
    ("message", "named"), [("", "has not been rated"), ("ComfyUI has died", "ComfyUI has died")], ids=["new", "broken"]
)
def test_who_cannot_work_is_a_503(message: str, named: str) -> None:
    """Before the benchmark, and while Vast is told of an error, clients are sent elsewhere."""
    ledger = rated() if message else Ledger()
    ledger.errored(message)
    with pytest.raises(ComfyUIUnavailable, match=named) as caught:
        admission(ledger).check()
    assert code_of_error(caught.value) == Code(503, 5.0)
    ledger.loaded(max_perf=1.0, loadtime_s=1.0)
    ledger.recovered()
    admission(ledger).check()
    assert admission(ledger).reason_to_wait() is None


def test_a_worker_that_ends_takes_nothing() -> None:
    """While it drains, clients are sent elsewhere, however little there is to do."""
    with pytest.raises(QueueFull, match="shutting down"):
        admission(rated(), is_draining=True).check()
