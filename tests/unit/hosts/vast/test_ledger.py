"""What Vast is told adds up: nothing is lost, nothing told twice."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from pydantic import JsonValue, SecretStr

from comfyworker.hosts.vast.ledger import Entry, Ledger, StatusReport
from comfyworker.hosts.vast.place import Place
from comfyworker.hosts.vast.signatures import AuthData, parse_auth

PLACE = Place(
    id=4711, url="http://203.0.113.7:41234", report_addresses=("http://a",), token=SecretStr("t0ken-of-the-master")
)


def auth(number: int, *, request_idx: int | None = None) -> AuthData:
    """Return auth_data; the request's index is 100 more than its number."""
    told = {"cost": 100, "endpoint": "e", "reqnum": number, "signature": "", "url": "http://203.0.113.7:1"}
    return parse_auth({**told, "request_idx": number + 100 if request_idx is None else request_idx})


def ticking() -> Iterator[float]:
    """Return a clock's times: each look at it takes a second."""
    return itertools.count(1000.0)


@pytest.fixture
def ledger() -> Ledger:
    """Return a ledger whose clock moves with each look."""
    times = ticking()
    return Ledger(clock=lambda: next(times))


def told(ledger: Ledger, disk_usage_gb: float = 10.0) -> dict[str, JsonValue]:
    """Return what a report that arrives tells."""
    report = ledger.take_status(disk_usage_gb=disk_usage_gb)
    ledger.delivered(report)
    return report.body


def deletes(ledger: Ledger) -> list[dict[str, JsonValue]]:
    """Return what is told of ended requests."""
    return [entry.to_delete() for entry in ledger.take_deletes()]


def test_a_report_has_exactly_the_wires_keys(ledger: Ledger) -> None:
    """The SDK's WorkerStatusData, in its order and with its spelling."""
    ledger.note_disk(9.5)
    assert ledger.take_status(disk_usage_gb=10.0).addressed(PLACE) == {
        "id": 4711,
        "mtoken": "t0ken-of-the-master",
        "version": "1.1.0",
        "loadtime": 0.0,
        "cur_load": 0.0,
        "rej_load": 0.0,
        "new_load": 0.0,
        "error_msg": "",
        "max_perf": 0.0,
        "cur_perf": 0.0,
        "cur_capacity": 0,
        "max_capacity": 0,
        "num_requests_working": 0,
        "num_requests_recieved": 0,
        "additional_disk_usage": 0.5,
        "disk_usage": 10.0,
        "working_request_idxs": [],
        "url": "http://203.0.113.7:41234",
    }


def test_a_request_is_load_until_it_is_served(ledger: Ledger) -> None:
    """First it is new and working, then it is performance."""
    entry = ledger.receive(auth(1), 400.0)
    first = told(ledger)
    assert [first[key] for key in ("new_load", "cur_load", "cur_perf")] == [400.0, 400.0, 0.0]
    assert [first[key] for key in ("num_requests_working", "num_requests_recieved")] == [1, 1]
    assert first["working_request_idxs"] == [101]
    ledger.succeed(entry)
    second = told(ledger)
    assert [second[key] for key in ("new_load", "cur_load", "cur_perf")] == [0.0, 0.0, 400.0]
    assert [second[key] for key in ("num_requests_working", "num_requests_recieved")] == [0, 1]
    assert second["working_request_idxs"] == []
    assert told(ledger)["cur_perf"] == 0.0


def test_no_request_begins_before_it_comes(ledger: Ledger) -> None:
    """A job that an earlier request had asked for began before this one came."""
    entry = ledger.receive(auth(1), 400.0)
    ledger.begin(entry, at=900.0)
    ledger.succeed(entry)
    [ended] = deletes(ledger)
    assert [ended[key] for key in ("entered_queue_at", "work_started_at")] == [1000.0, 1000.0]


def test_an_ended_request_is_told_with_its_times(ledger: Ledger) -> None:
    """Unix seconds of its coming, its beginning and its end."""
    entry = ledger.receive(auth(1), 400.0)
    ledger.begin(entry)
    ledger.succeed(entry)
    assert deletes(ledger) == [
        {
            "request_idx": 101,
            "success": True,
            "status": "Success",
            "entered_queue_at": 1000.0,
            "work_started_at": 1001.0,
            "work_completed_at": 1002.0,
        }
    ]
    assert deletes(ledger) == []


def test_a_failed_request_is_not_told_as_served(ledger: Ledger) -> None:
    """Vast would rate the worker by work that nobody got."""
    entry = ledger.receive(auth(1), 400.0)
    ledger.fail(entry)
    assert told(ledger)["cur_perf"] == 0.0
    [delete] = deletes(ledger)
    assert (delete["success"], delete["status"]) == (False, "Error")


def test_a_canceled_request_is_no_new_load(ledger: Ledger) -> None:
    """For Vast it is a success that was never completed."""
    kept = ledger.receive(auth(1), 400.0)
    ledger.cancel(ledger.receive(auth(2), 100.0))
    report = told(ledger)
    assert [report[key] for key in ("new_load", "cur_load", "cur_perf")] == [400.0, 400.0, 0.0]
    [delete] = deletes(ledger)
    assert (delete["success"], delete["status"], delete["work_completed_at"]) == (True, "Cancelled", 0.0)
    ledger.cancel(kept)
    assert told(ledger)["new_load"] == 0.0


def test_a_rejected_request_was_never_here(ledger: Ledger) -> None:
    """It is told as turned away, and ended."""
    ledger.reject(auth(1), 400.0)
    report = told(ledger)
    assert [report[key] for key in ("rej_load", "new_load", "cur_load")] == [400.0, 0.0, 0.0]
    assert [report[key] for key in ("num_requests_working", "num_requests_recieved")] == [0, 1]
    [delete] = deletes(ledger)
    assert (delete["success"], delete["status"]) == (False, "Rejected")


def test_a_request_that_comes_again_is_received_once(ledger: Ledger) -> None:
    """It is told of twice, though: once as turned away, once as served."""
    ledger.reject(auth(1), 400.0)
    ledger.succeed(ledger.receive(auth(1), 400.0))
    assert told(ledger)["num_requests_recieved"] == 1
    assert [delete["status"] for delete in deletes(ledger)] == ["Rejected", "Success"]


def test_ending_twice_changes_nothing(ledger: Ledger) -> None:
    """A client that goes while its answer is sent is served or canceled, not both."""
    entry = ledger.receive(auth(1), 400.0)
    assert ledger.succeed(entry)
    assert not ledger.cancel(entry)
    ledger.begin(entry)
    report = told(ledger)
    assert (report["cur_perf"], report["new_load"]) == (400.0, 400.0)
    assert [delete["status"] for delete in deletes(ledger)] == ["Success"]


def test_a_session_is_at_work_while_it_is_open(ledger: Ledger) -> None:
    """Its requests count in the loads only: Vast knows the session, not them."""
    session = ledger.open_session(auth(1), 100.0)
    request = ledger.receive(auth(1), 400.0, in_session=True)
    report = told(ledger)
    assert [report[key] for key in ("new_load", "cur_load", "num_requests_working")] == [500.0, 100.0, 1]
    assert report["working_request_idxs"] == [101]
    ledger.begin(request)
    ledger.succeed(request)
    assert deletes(ledger) == []
    assert told(ledger)["cur_perf"] == 400.0
    ledger.succeed(session)
    assert told(ledger)["cur_perf"] == 100.0
    assert [(delete["request_idx"], delete["status"]) for delete in deletes(ledger)] == [(101, "Success")]


def test_the_queues_time_is_that_of_the_requests(ledger: Ledger) -> None:
    """Sessions keep nobody waiting, their requests do; an unrated worker knows nothing."""
    ledger.open_session(auth(1), 100.0)
    ledger.receive(auth(1), 400.0, in_session=True)
    ledger.receive(auth(2), 200.0)
    assert (ledger.workload_in_flight, ledger.queue_time_s) == (600.0, 0.0)
    ledger.loaded(max_perf=20.0, loadtime_s=12.5)
    assert ledger.queue_time_s == 30.0
    assert [told(ledger)[key] for key in ("max_perf", "loadtime")] == [20.0, 12.5]


def test_a_request_from_elsewhere_is_load_but_not_told_of(ledger: Ledger) -> None:
    """Vast knows no index for it."""
    entry = ledger.receive(None, 400.0)
    report = told(ledger)
    assert [report[key] for key in ("new_load", "cur_load", "num_requests_working")] == [400.0, 400.0, 1]
    assert (report["num_requests_recieved"], report["working_request_idxs"]) == (0, [])
    ledger.succeed(entry)
    assert deletes(ledger) == []


def test_an_error_is_told_until_it_is_over(ledger: Ledger) -> None:
    """What was counted stays counted."""
    ledger.succeed(ledger.receive(auth(1), 400.0))
    ledger.errored("ComfyUI does not answer")
    report = told(ledger)
    assert (report["error_msg"], report["cur_perf"]) == ("ComfyUI does not answer", 400.0)
    ledger.recovered()
    assert ledger.has_news
    assert told(ledger)["error_msg"] == ""


def test_the_same_error_is_no_news(ledger: Ledger) -> None:
    """Who looks each second makes no report each second."""
    ledger.errored("ComfyUI does not answer")
    told(ledger)
    news = []
    for message in ("ComfyUI does not answer", "", ""):
        ledger.errored(message)
        news.append(ledger.has_news)
        told(ledger)
    assert news == [False, True, False]


def test_a_report_that_does_not_arrive_is_told_by_the_next(ledger: Ledger) -> None:
    """Also what happened while it was on its way."""
    ledger.note_disk(10.0)
    ledger.reject(auth(9), 50.0)
    first = ledger.receive(auth(1), 400.0)
    lost = ledger.take_status(disk_usage_gb=11.0)
    ledger.succeed(first)
    ledger.put_back(lost)
    assert ledger.has_news
    report = told(ledger, 12.0)
    assert [report[key] for key in ("rej_load", "new_load", "cur_perf")] == [50.0, 400.0, 400.0]
    assert report["additional_disk_usage"] == 2.0
    assert told(ledger, 12.5)["additional_disk_usage"] == 0.5


def test_ended_requests_that_do_not_arrive_are_told_again_in_order(ledger: Ledger) -> None:
    """None is lost, none told twice."""
    ledger.succeed(ledger.receive(auth(1), 400.0))
    taken = ledger.take_deletes()
    ledger.succeed(ledger.receive(auth(2), 400.0))
    ledger.put_back_deletes(taken)
    assert [delete["request_idx"] for delete in deletes(ledger)] == [101, 102]


def test_what_nobody_takes_does_not_grow_for_ever(ledger: Ledger) -> None:
    """The autoscaler forgets requests, too; the newest are kept."""
    for number in range(10_005):
        ledger.reject(auth(number), 1.0)
    entries = ledger.take_deletes()
    assert (len(entries), entries[-1].request_idx) == (10_000, 10_104)


class Books(RuleBasedStateMachine):
    """Whatever happens in whatever order, the sums are right."""

    entries: Bundle[Entry] = Bundle("entries")
    reports: Bundle[StatusReport] = Bundle("reports")

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self.ledger = Ledger(clock=lambda: 1.0)
        self.numbers = itertools.count()
        self.on_the_way: list[StatusReport] = []
        self.expected = {"received": 0.0, "served": 0.0, "canceled": 0.0, "rejected": 0.0}
        self.told = dict.fromkeys(self.expected, 0.0)
        self.ended = 0
        self.open: set[Entry] = set()
        self.deletes: list[int | None] = []

    @rule(target=entries, workload=st.integers(1, 1000))
    def receive(self, workload: int) -> Entry:
        """A request comes."""
        entry = self.ledger.receive(auth(next(self.numbers)), float(workload))
        self.expected["received"] += workload
        self.open.add(entry)
        return entry

    @rule(entry=entries, how=st.sampled_from(["succeed", "fail", "cancel"]))
    def end(self, entry: Entry, how: str) -> None:
        """One ends, perhaps not for the first time."""
        was_first = getattr(self.ledger, how)(entry)
        assert was_first == (entry in self.open)
        if was_first:
            self.open.remove(entry)
            self.ended += 1
            name = {"succeed": "served", "cancel": "canceled"}.get(how)
            if name:
                self.expected[name] += entry.workload

    @rule(workload=st.integers(1, 1000))
    def reject(self, workload: int) -> None:
        """One is turned away."""
        self.ledger.reject(auth(next(self.numbers)), float(workload))
        self.expected["rejected"] += workload
        self.ended += 1

    @rule(arrives=st.booleans())
    def report(self, arrives: bool) -> None:
        """A report is sent."""
        report = self.ledger.take_status(disk_usage_gb=1.0)
        if not arrives:
            self.ledger.put_back(report)
            return
        self.ledger.delivered(report)
        for name in self.told:
            self.told[name] += getattr(report.sums, name)

    @rule(arrives=st.booleans())
    def tell_deletes(self, arrives: bool) -> None:
        """Ended requests are told of."""
        taken = self.ledger.take_deletes()
        if arrives:
            self.deletes.extend(entry.request_idx for entry in taken)
        else:
            self.ledger.put_back_deletes(taken)

    @invariant()
    def load_is_never_negative(self) -> None:
        """What is in flight is what came and did not end."""
        assert self.ledger.workload_in_flight == sum(entry.workload for entry in self.open) >= 0

    def teardown(self) -> None:
        """At the end everything was told, once."""
        report = self.ledger.take_status(disk_usage_gb=1.0)
        assert {name: self.told[name] + getattr(report.sums, name) for name in self.told} == self.expected
        self.deletes.extend(entry.request_idx for entry in self.ledger.take_deletes())
        assert len(self.deletes) == len(set(self.deletes)) == self.ended


TestBooks = Books.TestCase
