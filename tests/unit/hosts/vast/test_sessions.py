"""Sessions: how many, how long, whose, and what their end does."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from comfyworker.errors import SessionEnded, TooBusy, Unauthorized
from comfyworker.hosts.vast.ledger import Ledger
from comfyworker.hosts.vast.sessions import LONGEST_LIFETIME_S, JobKey, Sessions
from comfyworker.hosts.vast.signatures import AuthData, parse_auth
from support.eventually import eventually


@dataclass
class World:
    """What sessions stand in."""

    ledger: Ledger = field(default_factory=Ledger)
    now: float = 1000.0
    canceled: list[JobKey] = field(default_factory=list)

    def sessions(self, *, most: int = 0) -> Sessions:
        """Return sessions whose clock is the test's."""

        async def cancel(job: JobKey) -> None:
            self.canceled.append(job)

        return Sessions(self.ledger, most=most, allow_private_urls=False, cancel=cancel, clock=lambda: self.now)


def auth(request_idx: int = 1) -> AuthData:
    """Return what a client was routed with."""
    values = {"cost": 250, "endpoint": "e", "reqnum": request_idx, "request_idx": request_idx, "signature": "s"}
    return parse_auth({**values, "url": "http://192.0.2.1:1"})


@pytest.fixture
def world() -> World:
    """Return a world without sessions."""
    return World()


@pytest.fixture
async def sessions(world: World) -> AsyncIterator[Sessions]:
    """Open the sessions of a worker."""
    async with world.sessions() as sessions:
        yield sessions


async def test_each_request_moves_the_end(sessions: Sessions) -> None:
    """By the session's lifetime, though never beyond the longest; only who has its auth_data is let in."""
    session = sessions.open(auth(), lifetime_s=60.0)
    assert session.expires_at == 1060.0
    sessions.enter(session.id, auth().as_sent)
    assert session.expires_at == 1120.0
    with pytest.raises(Unauthorized):
        sessions.enter(session.id, auth(2).as_sent)
    session.lifetime_s = LONGEST_LIFETIME_S
    sessions.enter(session.id, auth().as_sent)
    sessions.enter(session.id, auth().as_sent)
    assert session.expires_at == 1000.0 + LONGEST_LIFETIME_S


async def test_auth_data_that_is_too_deep_is_somebody_elses(sessions: Sessions) -> None:
    """It breaks nothing."""
    session = sessions.open(auth(), lifetime_s=60.0)
    deep = json.loads('{"x":' * 900 + "1" + "}" * 900)
    with pytest.raises(Unauthorized):
        sessions.enter(session.id, deep)


async def test_one_that_is_over_is_not_entered(world: World, sessions: Sessions) -> None:
    """From its last second on a session is unknown, before anybody has cleaned up."""
    session = sessions.open(auth(), lifetime_s=60.0)
    world.now = 1060.0
    assert sessions.find(session.id) is None
    with pytest.raises(SessionEnded):
        sessions.enter(session.id, auth().as_sent)
    with pytest.raises(SessionEnded):
        sessions.enter("never-there", auth().as_sent)


async def test_no_more_than_may(world: World) -> None:
    """One too many is refused and told as rejected, with the cost that Vast's router gave it; 0 is no limit."""
    async with world.sessions(most=1) as few:
        few.open(auth(), lifetime_s=60.0)
        world.now += 20.0
        with pytest.raises(TooBusy) as caught:
            few.open(auth(2), lifetime_s=60.0)
        assert caught.value.details["retry_after_s"] == 40.0
        assert world.ledger.take_status(disk_usage_gb=0.0).body["rej_load"] == 250.0
    async with world.sessions(most=0) as many:
        assert len({many.open(auth(number), lifetime_s=60.0).id for number in range(50)}) == 50


async def test_its_end_is_one_success_and_cancels_what_is_waited_for(world: World, sessions: Sessions) -> None:
    """Ending twice changes nothing; jobs whose clients have their answers are left alone."""
    session = sessions.open(auth(), lifetime_s=60.0)
    with session.awaiting(("vast", "waited")):
        with session.awaiting(("vast", "answered")):
            pass
        assert (sessions.end(session), sessions.end(session)) == (True, False)
        await eventually(lambda: world.canceled == [("vast", "waited")])
    assert [entry.to_delete()["status"] for entry in world.ledger.take_deletes()] == ["Success"]


async def test_it_may_end_while_a_job_is_taken(world: World, sessions: Sessions) -> None:
    """A client that begins to wait only then would wait for as long as the job runs: that is canceled, too."""
    session = sessions.open(auth(), lifetime_s=60.0)
    sessions.end(session)
    with session.awaiting(("vast", "late")):
        await eventually(lambda: world.canceled == [("vast", "late")])


async def test_the_end_of_the_worker_ends_all(world: World) -> None:
    """Vast is not left with sessions on a worker that is gone."""
    async with world.sessions() as sessions:
        for number in range(3):
            sessions.open(auth(number), lifetime_s=60.0)
    assert len(world.ledger.take_deletes()) == 3


async def test_time_ends_a_session(world: World) -> None:
    """One that expires while another was opened after it is ended when its own time comes."""
    async with world.sessions() as sessions:
        sessions.open(auth(1), lifetime_s=600.0)
        world.now = 1000.0
        sessions.open(auth(2), lifetime_s=0.001)
        world.now = 1001.0
        await eventually(lambda: len(sessions) == 1)
        assert [entry.request_idx for entry in world.ledger.take_deletes()] == [2]
