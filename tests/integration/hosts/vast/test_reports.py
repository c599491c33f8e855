"""Reports reach the autoscaler, or are told again; none is lost, and nobody waits for them."""

from collections import deque
from collections.abc import AsyncIterator

import aiohttp
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from comfyworker.errors import InstallFailed
from comfyworker.hosts.vast.ledger import Ledger
from comfyworker.hosts.vast.place import Place
from comfyworker.hosts.vast.reports import open_platform_session, reporting
from comfyworker.hosts.vast.signatures import AuthData, parse_auth
from support.eventually import eventually
from support.ports import free_port
from support.vast_platform import TOKEN, Fault, VastPlatform

URL = "http://203.0.113.7:41234"
STATUS, DELETES = "/worker_status/", "/delete_requests/"


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Return the session that the worker reports over."""
    async with open_platform_session() as session:
        yield session


@pytest.fixture
async def platform() -> AsyncIterator[VastPlatform]:
    """Return an autoscaler."""
    async with VastPlatform() as platform:
        yield platform


@pytest.fixture
def ledger() -> Ledger:
    """Return an empty ledger."""
    return Ledger()


def place(*addresses: str) -> Place:
    """Return a place that reports to these."""
    return Place(id=4711, url=URL, report_addresses=addresses, token=SecretStr(TOKEN))


def auth(number: int) -> AuthData:
    """Return auth_data of one request."""
    told = {"cost": 100, "endpoint": "e", "reqnum": number, "request_idx": number + 100, "signature": "", "url": URL}
    return parse_auth(told)


def served(ledger: Ledger, number: int) -> None:
    """Have a request served."""
    ledger.succeed(ledger.receive(auth(number), 400.0))


async def test_a_worker_that_starts_is_told_of_at_once(
    platform: VastPlatform, ledger: Ledger, session: aiohttp.ClientSession
) -> None:
    """The first report comes within about a second, and has the worker's name and token."""
    async with reporting(place(platform.url), ledger, session):
        status = await platform.until_status(lambda _: True)
    assert (status["id"], status["mtoken"], status["url"], status["version"]) == (4711, TOKEN, URL, "1.1.0")
    assert 0 < status["disk_usage"] < 1e6
    assert status["loadtime"] == 0.0


async def test_what_happens_is_told_and_then_nothing_more(
    platform: VastPlatform, ledger: Ledger, session: aiohttp.ClientSession
) -> None:
    """A served request makes one report of it and one delete; after that it is quiet."""
    async with reporting(place(platform.url), ledger, session):
        served(ledger, 1)
        [delete] = await platform.until_deleted(1)
        status = await platform.until_status(lambda status: status["cur_perf"] == 400.0)
    assert (delete["request_idx"], delete["status"]) == (101, "Success")
    assert status["new_load"] == 400.0
    assert sum(status["cur_perf"] for status in platform.statuses) == 400.0
    assert len(platform.deletes) == 1


async def test_a_quiet_worker_reports_about_every_ten_seconds(
    platform: VastPlatform, ledger: Ledger, session: aiohttp.ClientSession
) -> None:
    """Else it would count as gone."""
    async with reporting(place(platform.url), ledger, session):
        await eventually(lambda: len(platform.statuses) >= 2, within_s=30.0)
    first, second = platform.taken(STATUS)[:2]
    assert second.at - first.at >= 9.0


@pytest.mark.parametrize("fault", [500, 401, "cut"])
async def test_a_report_that_fails_is_told_by_the_next(
    platform: VastPlatform, ledger: Ledger, session: aiohttp.ClientSession, fault: Fault
) -> None:
    """Figures and ended requests are kept until somebody takes them."""
    platform.faults = {STATUS: deque([fault]), DELETES: deque([fault])}
    served(ledger, 1)
    async with reporting(place(platform.url), ledger, session):
        await eventually(lambda: not any(platform.faults.values()))
        served(ledger, 2)
        await platform.until_deleted(2)
        await platform.until_status(lambda status: status["num_requests_recieved"] == 2)
    assert sum(status["cur_perf"] for status in platform.statuses) == 800.0
    assert [delete["request_idx"] for delete in platform.deletes] == [101, 102]


async def test_a_dead_address_is_passed_over(
    platform: VastPlatform, ledger: Ledger, session: aiohttp.ClientSession
) -> None:
    """The next one gets the report in the same second, and no report is told to both."""
    dead = f"http://127.0.0.1:{free_port()}"
    with capture_logs() as logs:
        async with reporting(place(dead, platform.url), ledger, session):
            served(ledger, 1)
            await platform.until_deleted(1)
            served(ledger, 2)
            await platform.until_deleted(2)
    assert sum(status["cur_perf"] for status in platform.statuses) == 800.0
    failed = [entry for entry in logs if entry["event"] == "reports.failed"]
    assert sorted(entry["report"] for entry in failed) == [DELETES, STATUS]
    assert TOKEN not in str(logs)


async def test_a_report_goes_to_one_address_only(
    platform: VastPlatform, ledger: Ledger, session: aiohttp.ClientSession
) -> None:
    """There is one autoscaler behind them, which would count twice; the first one has a right to all."""
    async with VastPlatform() as second, reporting(place(platform.url, second.url), ledger, session):
        served(ledger, 1)
        await platform.until_deleted(1)
        await platform.until_status(lambda status: status["cur_perf"] == 400.0)
    assert second.arrived == []


async def test_an_address_that_never_answers_holds_up_no_other_report(platform: VastPlatform, ledger: Ledger) -> None:
    """Deletes go on while a report of the state hangs, and the next reports go to the address that works."""
    platform.always = {STATUS: "hang"}
    async with (
        VastPlatform() as second,
        open_platform_session(answer_within_s=1.5) as session,
        reporting(place(platform.url, second.url), ledger, session),
    ):
        served(ledger, 1)
        [delete] = await platform.until_deleted(1)
        assert second.statuses == []
        await second.until_status(lambda status: status["cur_perf"] == 400.0)
        served(ledger, 2)
        await second.until_status(lambda status: status["num_requests_recieved"] == 2)
        hung = [arrival for arrival in platform.arrived if arrival.path == STATUS]
    assert delete["request_idx"] == 101
    assert len(hung) == 1
    assert sum(status["cur_perf"] for status in second.statuses) == 800.0


async def test_the_last_words_are_heard(platform: VastPlatform, ledger: Ledger, session: aiohttp.ClientSession) -> None:
    """What happened just before the end is told, also to an address that had failed."""
    platform.faults = {STATUS: deque([500]), DELETES: deque([500])}
    served(ledger, 1)
    async with reporting(place(platform.url), ledger, session):
        await eventually(lambda: not any(platform.faults.values()))
        served(ledger, 2)
    assert sum(status["cur_perf"] for status in platform.statuses) == 800.0
    assert [delete["request_idx"] for delete in platform.deletes] == [101, 102]


async def test_the_end_does_not_wait_for_a_platform_that_is_gone(platform: VastPlatform, ledger: Ledger) -> None:
    """It is bounded, whatever hangs for ever; what was not told is kept."""
    platform.always = {STATUS: "hang", DELETES: "hang"}
    async with (
        open_platform_session(answer_within_s=3600) as session,
        reporting(place(platform.url), ledger, session, last_within_s=0.2),
    ):
        served(ledger, 1)
        await eventually(lambda: len(platform.arrived) == 2)
    assert ledger.has_deletes
    assert ledger.take_status(disk_usage_gb=1.0).sums.served == 400.0


async def test_what_goes_wrong_inside_is_raised_as_it_is(
    platform: VastPlatform, ledger: Ledger, session: aiohttp.ClientSession
) -> None:
    """No group of exceptions is wrapped around it, and it is reported before."""

    async def life() -> None:
        async with reporting(place(platform.url), ledger, session):
            ledger.errored("no ComfyUI is installed")
            raise InstallFailed("no ComfyUI is installed")

    with pytest.raises(InstallFailed, match="no ComfyUI"):
        await life()
    assert [status["error_msg"] for status in platform.statuses] == ["no ComfyUI is installed"]


async def test_reports_can_be_sent_now(platform: VastPlatform, ledger: Ledger, session: aiohttp.ClientSession) -> None:
    """A worker that cannot start says why before it ends."""
    async with reporting(place(platform.url), ledger, session) as reports:
        ledger.errored("no ComfyUI is installed")
        await reports.flush()
        assert [status["error_msg"] for status in platform.statuses] == ["no ComfyUI is installed"]
