"""The service is killed, at random moments and in known states: each job that was taken has exactly one end.

Each life of it is a process of its own, forked from one that has imported what it needs.
"""

import contextlib
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from comfyworker.errors import InvalidSettings
from comfyworker.jobs import JobStatus
from comfyworker.service import EventKind, JobRecord, StatusChange
from support.service import PlainRunner, service_in
from support.warm_process import Forked, Program, WarmProcess, warmed

KILLS = 50
JOBS_A_LIFE = 12
JOB_SERVER = Program("support.job_server:run")


class Server:
    """A job service in a process of its own."""

    def __init__(self, process: Forked) -> None:
        """Be about `process`."""
        self._process = process
        self.facts: list[tuple[str, ...]] = []

    def ask(self, *commands: str) -> None:
        """Send commands."""
        self._process.stdin.write("".join(f"{command}\n" for command in commands).encode())

    async def until(self, *fact: str) -> None:
        """Wait until it has told `fact`."""
        while fact not in self.facts:
            assert await self.hear(), f"it ended without telling {fact}: {self.facts}"

    async def hear(self) -> bool:
        """Wait for one fact; False if it has ended."""
        line = await self._process.stdout.readline()
        if line.endswith(b"\n"):  # Half a line is what a killed process was about to tell.
            self.facts.append(tuple(line.decode().split()))
        return bool(line)

    async def kill(self) -> None:
        """End it with SIGKILL, and hear what it had told until then."""
        self._process.kill()
        while await self.hear():
            pass
        await self._process.wait()

    async def stop(self) -> int:
        """Have it stop by itself; return its exit code."""
        self.ask("stop")
        while await self.hear():
            pass
        return await self._process.wait()

    def told(self, word: str) -> list[str]:
        """Return the ids of the jobs of which it told `word`, in that order."""
        return [fact[1] for fact in self.facts if fact[0] == word]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def warm() -> AsyncIterator[WarmProcess]:
    """Start the process that is forked for each service."""
    async with warmed(JOB_SERVER, env=os.environ) as process:
        yield process


@contextlib.asynccontextmanager
async def server_in(warm: WarmProcess, folder: Path, places: int = 2) -> AsyncIterator[Server]:
    """Start a service on `folder`, and see that it does not outlive the test."""
    server = Server(await warm.start([str(folder), str(places)], env=os.environ, cwd=folder))
    try:
        await server.until("ready")
        yield server
    finally:
        await server.kill()


def contents(folder: Path) -> list[bytes]:
    """Return what every file below `folder` holds."""
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


async def end_of(folder: Path, job_ids: list[str]) -> dict[str, JobRecord]:
    """Start a service here, wait until all jobs are over, and return their records."""
    async with service_in(folder / "state", PlainRunner(folder / "made"), places=4) as service:
        return {job_id: await service.wait("", job_id, timeout_s=60) for job_id in job_ids}


async def test_each_job_has_one_end_whenever_the_service_is_killed(
    warm: WarmProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fifty kills under load: what was taken is finished, run at most twice, and holds its own file."""
    begun, taken, collided = Counter[str](), set[str](), set[str]()
    number = 0
    for _ in range(KILLS):
        async with server_in(warm, tmp_path) as server:
            ids = [f"job-{number + index}" for index in range(JOBS_A_LIFE)]
            number += JOBS_A_LIFE
            server.ask(*(f"submit {job_id}" for job_id in ids))
            for _ in range(random.randrange(3 * JOBS_A_LIFE)):
                await server.hear()
            await server.kill()
        begun.update(server.told("begun"))
        taken.update(server.told("taken"))
        collided.update(server.told("collided"))
    async with service_in(tmp_path / "state", PlainRunner(tmp_path / "made"), places=4) as service:
        left = {job_id: await service.wait("", job_id, timeout_s=60) for job_id in sorted(taken)}
        counts = await service.counts()
        ends = Counter[str]()
        for job_id, record in left.items():
            statuses = [
                event.data.status
                async for event in service.events("", job_id)
                if event.kind is EventKind.STATUS and isinstance(event.data, StatusChange)
            ]
            ends.update(status for status in statuses if status.is_terminal)
            if record.status is JobStatus.SUCCEEDED:
                [output] = record.outputs
                assert output.path is not None
                assert output.path.read_text() == f"made for {job_id}"
    finals = Counter(record.status.value for record in left.values())
    twice = sum(number > 1 for number in begun.values())
    with capsys.disabled():
        print(f"\n{KILLS} kills, {len(taken)} jobs taken; ends: {dict(finals)}; begun twice: {twice}")
    assert not collided
    assert all(record.is_terminal for record in left.values())
    assert {record.result.error.code for record in left.values() if record.result and record.result.error} <= {
        "worker_restarted"
    }
    assert max(begun.values()) <= 2
    assert sum(ends.values()) == len(taken)
    assert (counts.queued, counts.running) == (0, 0)


async def test_what_waited_is_run_and_what_was_over_stays(warm: WarmProcess, tmp_path: Path) -> None:
    """After a kill with one job done, one running and two waiting, the service goes on."""
    async with server_in(warm, tmp_path, places=1) as server:
        server.ask("submit done")
        await server.until("made", "done")
        server.ask("submit stuck", "submit second", "submit third")
        for fact in (("begun", "stuck"), ("taken", "second"), ("taken", "third")):
            await server.until(*fact)
        await server.kill()
    records = await end_of(tmp_path, ["done", "stuck", "second", "third"])
    assert [(record.status, record.attempts) for record in records.values()] == [
        (JobStatus.SUCCEEDED, 1),
        (JobStatus.SUCCEEDED, 2),
        (JobStatus.SUCCEEDED, 1),
        (JobStatus.SUCCEEDED, 1),
    ]


async def test_a_job_that_ends_the_service_twice_fails(warm: WarmProcess, tmp_path: Path) -> None:
    """It may be the cause: it is not run a third time."""
    for _ in range(2):
        async with server_in(warm, tmp_path) as server:
            server.ask("submit stuck")
            await server.until("begun", "stuck")
            await server.kill()
    [record] = (await end_of(tmp_path, ["stuck"])).values()
    assert record.result is not None
    assert record.result.error is not None
    assert (record.status, record.attempts) == (JobStatus.FAILED, 2)
    assert (record.result.error.code, record.result.error.retryable) == ("worker_restarted", False)


async def test_a_job_with_secrets_fails_after_a_kill(warm: WarmProcess, tmp_path: Path) -> None:
    """Its keys were nowhere but in memory: neither in the database nor in a file."""
    async with server_in(warm, tmp_path, places=1) as server:
        server.ask("submit stuck", "submit secret")
        await server.until("begun", "stuck")
        await server.until("taken", "secret")
        await server.kill()
    assert not any(b"sk-secret" in content for content in contents(tmp_path))
    [record] = (await end_of(tmp_path, ["secret"])).values()
    assert record.result is not None
    assert record.result.error is not None
    assert (record.status, record.attempts) == (JobStatus.FAILED, 0)
    assert (record.result.error.code, record.result.error.retryable) == ("worker_restarted", True)


async def test_a_canceled_job_does_not_run_after_a_kill(warm: WarmProcess, tmp_path: Path) -> None:
    """Once its cancellation is answered, it ends as canceled."""
    async with server_in(warm, tmp_path, places=1) as server:
        server.ask("submit stuck", "submit waits")
        await server.until("begun", "stuck")
        await server.until("taken", "waits")
        server.ask("cancel stuck", "cancel waits")
        await server.until("canceled", "stuck")
        await server.until("canceled", "waits")
        await server.kill()
    records = await end_of(tmp_path, ["stuck", "waits"])
    assert {record.status for record in records.values()} == {JobStatus.CANCELED}


async def test_a_service_that_stops_hands_its_jobs_back(warm: WarmProcess, tmp_path: Path) -> None:
    """What ran begins anew at the next start, and has lost no attempt."""
    async with server_in(warm, tmp_path, places=1) as server:
        server.ask("submit stuck", "submit waits")
        await server.until("begun", "stuck")
        await server.until("taken", "waits")
        assert await server.stop() == 0
    records = await end_of(tmp_path, ["stuck", "waits"])
    assert [(record.status, record.attempts) for record in records.values()] == [(JobStatus.SUCCEEDED, 1)] * 2


async def test_a_folder_has_one_server(warm: WarmProcess, tmp_path: Path) -> None:
    """A second one is told, and the first goes on; when that is killed, the folder is free."""
    async with server_in(warm, tmp_path) as server:
        with pytest.raises(InvalidSettings, match="another server"):
            async with service_in(tmp_path / "state", PlainRunner(tmp_path / "made")):
                pass
        server.ask("submit job")
        await server.until("made", "job")
        await server.kill()
    [record] = (await end_of(tmp_path, ["job"])).values()
    assert record.status is JobStatus.SUCCEEDED


async def test_what_a_killed_service_left_is_removed(warm: WarmProcess, tmp_path: Path) -> None:
    """Folders of no job and files of no asset go at the next start; those of jobs stay."""
    async with server_in(warm, tmp_path) as server:
        server.ask("submit job")
        await server.until("made", "job")
        assert await server.stop() == 0
    state = tmp_path / "state"
    (state / "jobs" / "stray").mkdir()
    (state / "jobs" / "stray" / "request.json").write_text("{}")
    (state / "assets" / ".abc.part").write_text("half")
    (state / "assets" / "0123").write_text("of no asset")
    async with service_in(state, PlainRunner(tmp_path / "made")) as service:
        [output] = (await service.get("", "job")).outputs
    assert output.path is not None
    assert output.path.read_text() == "made for job"
    assert [path.name for path in (state / "assets").iterdir()] == []
    assert len(list((state / "jobs").iterdir())) == 1


async def test_event_ids_go_on_after_a_kill(warm: WarmProcess, tmp_path: Path) -> None:
    """No id is given a second time for something else: a reader who comes back hears all that is new."""
    async with server_in(warm, tmp_path, places=1) as server:
        server.ask("submit stuck")
        await server.until("begun", "stuck")
        await server.kill()
    async with service_in(tmp_path / "state", PlainRunner(tmp_path / "made")) as service:
        events = [event async for event in service.events("", "stuck", after=3)]
    assert min(event.id for event in events) > 1000
    assert [event.kind for event in events if event.kind is not EventKind.PREVIEW][:2] == ["status", "log"]
    assert isinstance(events[-1].data, StatusChange)
    assert events[-1].data.status is JobStatus.SUCCEEDED
