"""The job service: what is taken is run once, and what came of it is there until it expires."""

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from comfyworker.errors import IdempotencyKeyReused, InvalidRequest, NotFound, QueueFull
from comfyworker.jobs import Artifact, JobRequest, JobResult, JobStatus
from comfyworker.service import EventKind, JobRecord, JobService, StatusChange, kept_delivery
from comfyworker.settings import QueueSettings
from support.eventually import eventually
from support.service import PlainRunner, service_in, submission


@pytest.fixture
def runner(tmp_path: Path) -> PlainRunner:
    """Return a runner."""
    return PlainRunner(tmp_path / "made")


@pytest.fixture
def held(runner: PlainRunner) -> PlainRunner:
    """Return the runner, holding its jobs."""
    runner.gate.clear()
    return runner


async def test_a_job_runs_and_its_file_is_kept(tmp_path: Path, runner: PlainRunner) -> None:
    """Who waits gets the finished job, with its own file, though the original has gone."""
    async with service_in(tmp_path / "state", runner) as service:
        taken = await service.submit(submission("job-1", meta={"note": 1}))
        done = await service.wait("", "job-1", timeout_s=10)
        for path in runner.folder.iterdir():
            path.unlink()
        [output] = done.outputs
        assert output.path is not None
        assert output.path.read_text() == "made for job-1"
        assert taken.status in {JobStatus.QUEUED, JobStatus.RUNNING}
        assert (done.status, done.attempts, done.meta, done.api) == (JobStatus.SUCCEEDED, 1, {"note": 1}, "runpod")
        assert done.result is not None
        assert done.result.artifacts == done.outputs
        assert done == await service.get("", "job-1")


async def test_everything_is_there_after_a_restart(tmp_path: Path, runner: PlainRunner) -> None:
    """A new server on the same folder tells the same of a job, its file included."""
    async with service_in(tmp_path / "state", runner) as service:
        await service.submit(submission("job-1"))
        done = await service.wait("", "job-1", timeout_s=10)
        events = [event async for event in service.events("", "job-1")]
    async with service_in(tmp_path / "state", runner) as service:
        again = await service.get("", "job-1")
        assert again == done
        assert [event async for event in service.events("", "job-1")] == events
        asset = await service.assets.get(done.outputs[0].asset_id, owner="")
        assert asset.path.read_text() == "made for job-1"
    assert runner.begun == ["job-1"]


async def test_a_state_folder_may_move(tmp_path: Path, runner: PlainRunner) -> None:
    """Files are found where the folder is now."""
    async with service_in(tmp_path / "state", runner) as service:
        await service.submit(submission("job-1"))
        await service.wait("", "job-1", timeout_s=10)
    (tmp_path / "state").rename(tmp_path / "moved")
    async with service_in(tmp_path / "moved", runner) as service:
        [output] = (await service.get("", "job-1")).outputs
        assert output.path is not None
        assert output.path.read_text() == "made for job-1"


async def test_no_more_run_than_there_are_places(tmp_path: Path, held: PlainRunner) -> None:
    """Twenty jobs on three places: all end, never more than three at a time."""
    async with service_in(tmp_path / "state", held, places=3) as service:
        for number in range(20):
            await service.submit(submission(f"job-{number}"))
        await eventually(lambda: len(held.begun) == 3)
        held.gate.set()
        records = [await service.wait("", f"job-{number}", timeout_s=20) for number in range(20)]
    assert {record.status for record in records} == {JobStatus.SUCCEEDED}
    assert held.most_at_once == 3


async def test_higher_priorities_first_then_the_older(tmp_path: Path, held: PlainRunner) -> None:
    """The line is in order, and each job knows how many stand before it."""
    async with service_in(tmp_path / "state", held, places=1) as service:
        await service.submit(submission("runs"))
        for job_id, priority in (("low", -1), ("first", 0), ("second", 0), ("high", 5)):
            await service.submit(submission(job_id, priority=priority))
        positions = {job_id: (await service.get("", job_id)).queue_position for job_id in ("high", "first", "low")}
        assert positions == {"high": 0, "first": 1, "low": 3}
        assert (await service.get("", "runs")).queue_position is None
        held.gate.set()
        await service.wait("", "low", timeout_s=10)
    assert held.begun == ["runs", "high", "first", "second", "low"]


async def test_a_full_line_takes_no_more(tmp_path: Path, held: PlainRunner) -> None:
    """The next job is refused, with the seconds after which to come again; one that is there already is not."""
    async with service_in(tmp_path / "state", held, places=1, max_queued=2) as service:
        for number in range(3):
            await service.submit(submission(f"job-{number}"))
        with pytest.raises(QueueFull) as caught:
            await service.submit(submission("one too many"))
        assert caught.value.details == {"retry_after_s": 5}  # none has ended yet
        assert caught.value.message == "as many jobs wait as may: 2"
        assert (await service.submit(submission("job-2"))).is_repeat
        held.gate.set()


async def test_all_at_once_the_line_never_grows_over_its_bound(tmp_path: Path, held: PlainRunner) -> None:
    """Of thirty submissions at the same moment as many are taken as fit, and the others are refused."""
    async with service_in(tmp_path / "state", held, places=2, max_queued=5) as service:
        outcomes = await asyncio.gather(
            *(service.submit(submission(f"job-{number}")) for number in range(30)), return_exceptions=True
        )
        taken = [outcome for outcome in outcomes if isinstance(outcome, JobRecord)]
        assert len(taken) == 7
        assert {type(outcome) for outcome in outcomes if outcome not in taken} == {QueueFull}
        assert (await service.counts()).queued == 5


async def test_the_same_submission_twice_is_one_job(tmp_path: Path, runner: PlainRunner) -> None:
    """By the id, or by the idempotency key with an id of its own, the first job is answered."""
    async with service_in(tmp_path / "state", runner) as service:
        first = await service.submit(submission("job-1", idempotency_key="key"))
        again = await service.submit(submission("job-1", idempotency_key="key"))
        by_key = await service.submit(submission("other id", idempotency_key="key"))
        await service.wait("", "job-1", timeout_s=10)
        late = await service.submit(submission("third id", idempotency_key="key"))
    assert not first.is_repeat
    assert [(record.id, record.is_repeat) for record in (again, by_key, late)] == [("job-1", True)] * 3
    assert runner.begun == ["job-1"]


async def test_submissions_at_the_same_moment_are_one_job(tmp_path: Path, runner: PlainRunner) -> None:
    """A client that sends twice because it got no answer in time starts one job."""
    async with service_in(tmp_path / "state", runner) as service:
        records = await asyncio.gather(*(service.submit(submission("job-1")) for _ in range(10)))
        await service.wait("", "job-1", timeout_s=10)
    assert sorted(record.is_repeat for record in records) == [False] + [True] * 9
    assert runner.begun == ["job-1"]


@pytest.mark.parametrize(("job_id", "key"), [("job-1", None), ("other", "key")], ids=["id", "key"])
async def test_the_id_of_another_request_is_refused(
    tmp_path: Path, runner: PlainRunner, job_id: str, key: str | None
) -> None:
    """An id or a key that is used again for something else is a mistake of the client's."""
    async with service_in(tmp_path / "state", runner) as service:
        await service.submit(submission("job-1", idempotency_key="key"))
        with pytest.raises(IdempotencyKeyReused):
            await service.submit(submission(job_id, timeout_s=7.0, idempotency_key=key))


async def test_one_owner_knows_nothing_of_another(tmp_path: Path, runner: PlainRunner) -> None:
    """The same id may be anybody's; who does not own a job finds none."""
    async with service_in(tmp_path / "state", runner) as service:
        await service.submit(submission("job", owner="ann", idempotency_key="key"))
        await service.submit(submission("job", owner="bob", idempotency_key="key", timeout_s=5.0))
        await service.submit(submission("ann's", owner="ann"))
        done = await service.wait("ann", "ann's", timeout_s=10)
        for call in (service.get, service.cancel, service.retry, service.request, service.body):
            with pytest.raises(NotFound):
                await call("bob", "ann's")
        with pytest.raises(NotFound):
            await service.wait("bob", "ann's", timeout_s=1)
        with pytest.raises(NotFound):
            await anext(service.events("bob", "ann's"))
        with pytest.raises(NotFound):
            await service.assets.get(done.outputs[0].asset_id, owner="bob")
        assert [job.id for job in (await service.list("bob")).jobs] == ["job"]


async def test_a_waiting_job_is_canceled_at_once(tmp_path: Path, held: PlainRunner) -> None:
    """It never begins; who waits for it hears of it; to cancel it again changes nothing."""
    async with service_in(tmp_path / "state", held, places=1) as service:
        await service.submit(submission("runs"))
        await service.submit(submission("waits"))
        waiter = asyncio.ensure_future(service.wait("", "waits", timeout_s=10))
        canceled = await service.cancel("", "waits")
        assert canceled.status is JobStatus.CANCELED
        assert canceled.result is not None
        assert canceled.result.error is not None
        assert canceled.result.error.code == "job_canceled"
        assert await waiter == canceled == await service.cancel("", "waits")
        held.gate.set()
        await service.wait("", "runs", timeout_s=10)
    assert held.begun == ["runs"]


async def test_a_running_job_is_canceled_soon(tmp_path: Path, held: PlainRunner) -> None:
    """Its runner is cancelled, and its place is free for the next."""
    async with service_in(tmp_path / "state", held, places=1) as service:
        await service.submit(submission("runs"))
        await service.submit(submission("next"))
        await eventually(lambda: held.begun == ["runs"])
        canceling = await service.cancel("", "runs")
        done = await service.wait("", "runs", timeout_s=10)
        told = [event.data async for event in service.events("", "runs") if event.kind is EventKind.STATUS]
        held.gate.set()
        after = await service.wait("", "next", timeout_s=10)
    assert canceling.status in {JobStatus.CANCELING, JobStatus.CANCELED}
    assert done.status is JobStatus.CANCELED
    assert [change.status for change in told if isinstance(change, StatusChange)][-2:] == [
        JobStatus.CANCELING,
        JobStatus.CANCELED,
    ]
    assert after.status is JobStatus.SUCCEEDED
    assert held.cancelled == ["runs"]


async def test_a_caller_who_goes_away_changes_nothing(tmp_path: Path, held: PlainRunner) -> None:
    """Neither a submission nor a cancellation is left half done by a client who hangs up."""
    async with service_in(tmp_path / "state", held, places=1) as service:
        await service.submit(submission("runs"))
        for call in (
            service.submit(submission("small")),
            service.submit(submission("large", body=b"x" * 200_000, modifications={"text": "x" * 200_000})),
        ):
            caller = asyncio.ensure_future(call)
            await asyncio.sleep(0)  # Lets it ask.
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
        caller = asyncio.ensure_future(service.cancel("", "small"))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        canceled = await service.wait("", "small", timeout_s=10)
        held.gate.set()
        await service.wait("", "runs", timeout_s=10)
        ids = {job.id for job in (await service.list("")).jobs}
        folders = list((tmp_path / "state" / "jobs").iterdir())
    assert canceled.status is JobStatus.CANCELED
    # Who hung up before the large one was on the disk has no job; nothing of it is left either.
    assert ids == {"runs", "small"}
    assert len(folders) == 1


async def test_purging_cancels_what_waits(tmp_path: Path, held: PlainRunner) -> None:
    """What runs goes on, and other owners' jobs stay."""
    async with service_in(tmp_path / "state", held, places=1) as service:
        for job_id, owner in (("runs", "ann"), ("a", "ann"), ("b", "ann"), ("c", "bob")):
            await service.submit(submission(job_id, owner=owner))
        assert await service.purge("ann") == 2
        held.gate.set()
        statuses = [
            (await service.wait(owner, job_id, timeout_s=10)).status
            for job_id, owner in (("runs", "ann"), ("a", "ann"), ("c", "bob"))
        ]
    assert statuses == [JobStatus.SUCCEEDED, JobStatus.CANCELED, JobStatus.SUCCEEDED]


async def test_a_runner_that_breaks_is_an_internal_error(tmp_path: Path) -> None:
    """The job fails without a word of the cause, and the next one runs."""

    async def broken(request: JobRequest, **_: object) -> JobResult:
        if request.id == "bad":
            message = "secret detail"
            raise LookupError(message)
        return JobResult(id=request.id, status=JobStatus.SUCCEEDED)

    async with JobService(broken, QueueSettings(), folder=tmp_path, places=1) as service:
        await service.submit(submission("bad"))
        await service.submit(submission("good"))
        bad, good = [await service.wait("", job_id, timeout_s=10) for job_id in ("bad", "good")]
    assert bad.result is not None
    assert bad.result.error is not None
    assert (bad.status, bad.result.error.code) == (JobStatus.FAILED, "internal_error")
    assert "secret" not in str(bad.result.error)
    assert good.status is JobStatus.SUCCEEDED


async def test_a_failed_job_can_be_tried_again(tmp_path: Path) -> None:
    """It runs under its id; its events go on where they ended; one that succeeded stays."""
    fails = [True, False]

    async def runner(request: JobRequest, **_: object) -> JobResult:
        return JobResult(id=request.id, status=JobStatus.FAILED if fails.pop(0) else JobStatus.SUCCEEDED)

    async with JobService(runner, QueueSettings(), folder=tmp_path, places=1) as service:
        await service.submit(submission("job"))
        failed = await service.wait("", "job", timeout_s=10)
        last = [event async for event in service.events("", "job")][-1]
        retried = await service.retry("", "job")
        done = await service.wait("", "job", timeout_s=10)
        fresh = [event.id async for event in service.events("", "job", after=last.id)]
        with pytest.raises(InvalidRequest) as caught:
            await service.retry("", "job")
        counts = await service.counts()
    assert (failed.status, done.status) == (JobStatus.FAILED, JobStatus.SUCCEEDED)
    assert not retried.is_terminal
    assert fresh == [last.id + 1, last.id + 2, last.id + 3]
    assert caught.value.problems[0].code == "not_retryable"
    assert (counts.retried, counts.ended) == (1, {JobStatus.FAILED: 1, JobStatus.SUCCEEDED: 1})


async def test_a_job_tried_again_leaves_the_files_of_its_last_run(tmp_path: Path) -> None:
    """Only what made it succeed is kept; the other files and their records go."""
    made = PlainRunner(tmp_path / "made")
    statuses = [JobStatus.FAILED, JobStatus.SUCCEEDED]

    async def runner(request: JobRequest, **_: object) -> JobResult:
        artifacts = await kept_delivery(request).deliver([made.make_file(request.id)])
        return JobResult(id=request.id, status=statuses.pop(0), artifacts=artifacts)

    async with JobService(runner, QueueSettings(), folder=tmp_path / "state", places=1) as service:
        await service.submit(submission("job"))
        [first] = (await service.wait("", "job", timeout_s=10)).outputs
        await service.retry("", "job")
        [second] = (await service.wait("", "job", timeout_s=10)).outputs
        assert first.path is not None
        assert second.path is not None
        assert (first.path.exists(), second.path.exists()) == (False, True)
        with pytest.raises(NotFound):
            await service.assets.find(first.asset_id)


async def test_an_expired_job_frees_its_id_and_its_key(tmp_path: Path, held: PlainRunner) -> None:
    """Both may be used again, for anything."""
    async with service_in(tmp_path / "state", held, places=1) as service:
        await service.submit(submission("runs"))
        for job_id, key in (("one", "key"), ("two", None)):
            await service.submit(submission(job_id, ttl_s=0.01, idempotency_key=key))
            assert (await service.wait("", job_id, timeout_s=10)).status is JobStatus.EXPIRED
        both = await service.submit(submission("two", idempotency_key="key", timeout_s=9.0))
        held.gate.set()
        assert not both.is_repeat


async def test_a_job_that_waited_too_long_is_expired(tmp_path: Path, held: PlainRunner) -> None:
    """It never begins, and says why."""
    async with service_in(tmp_path / "state", held, places=1) as service:
        await service.submit(submission("runs"))
        await service.submit(submission("waits", ttl_s=0.05))
        expired = await service.wait("", "waits", timeout_s=10)
        held.gate.set()
    assert expired.result is not None
    assert expired.result.error is not None
    assert (expired.status, expired.result.error.code) == (JobStatus.EXPIRED, "job_timeout")
    assert held.begun == ["runs"]


async def test_a_result_expires_with_its_files(tmp_path: Path, runner: PlainRunner) -> None:
    """After its time a job is told to have expired, and its files are gone; later it is forgotten."""
    state = tmp_path / "state"
    async with service_in(state, runner, result_ttl_s=0.05) as service:
        await service.submit(submission("job", body=b"{}"))
        done = await service.wait("", "job", timeout_s=10)
        [output] = done.outputs
        assert done.status is JobStatus.SUCCEEDED
        await service.submit(submission("later"))  # Each end makes the service look again.

        async def has_expired() -> bool:
            return (await service.get("", "job")).status is JobStatus.EXPIRED

        await eventually(has_expired, within_s=40)
        assert (await service.get("", "job")).outputs == ()
        file = output.path
        assert file is not None
        await eventually(lambda: not file.exists(), within_s=40)
    async with service_in(state, runner, result_ttl_s=0.05, record_ttl_s=0.05) as service:
        await service.submit(submission("latest"))

        async def is_forgotten() -> bool:
            with contextlib.suppress(NotFound):
                await service.get("", "job")
                return False
            return True

        await eventually(is_forgotten, within_s=40)
        with pytest.raises(NotFound):
            await service.assets.find(output.asset_id)


async def test_an_expired_job_has_one_thing_to_tell(tmp_path: Path, runner: PlainRunner) -> None:
    """Its events are gone but for the last; its request too; its id can be used again."""
    async with service_in(tmp_path / "state", runner, result_ttl_s=0.01) as service:
        await service.submit(submission("job"))
        await service.wait("", "job", timeout_s=10)

        async def has_expired() -> bool:
            return (await service.get("", "job")).status is JobStatus.EXPIRED

        await eventually(has_expired)
        events = [event async for event in service.events("", "job")]
        assert [(event.kind, getattr(event.data, "status", None)) for event in events] == [
            ("status", JobStatus.EXPIRED)
        ]
        with pytest.raises(NotFound):
            await service.request("", "job")
        assert not (await service.submit(submission("job", timeout_s=3.0))).is_repeat


async def test_the_list_has_pages(tmp_path: Path, runner: PlainRunner) -> None:
    """Newest first, each job once, by status and by API."""
    async with service_in(tmp_path / "state", runner) as service:
        for number in range(5):
            await service.submit(submission(f"job-{number}", api="vast" if number == 2 else "runpod"))
            await service.wait("", f"job-{number}", timeout_s=10)
        first = await service.list("", limit=2)
        second = await service.list("", limit=2, cursor=first.next_cursor)
        third = await service.list("", limit=2, cursor=second.next_cursor)
        ids = [[job.id for job in page.jobs] for page in (first, second, third)]
        assert ids == [["job-4", "job-3"], ["job-2", "job-1"], ["job-0"]]
        assert third.next_cursor is None
        assert [job.id for job in (await service.list("", api="vast")).jobs] == ["job-2"]
        assert (await service.list("", statuses=[JobStatus.FAILED, JobStatus.QUEUED])).jobs == ()
        assert len((await service.list("", statuses=[JobStatus.SUCCEEDED])).jobs) == 5
        for cursor in ("zz", "", "-1x", "9" * 40):
            with pytest.raises(InvalidRequest):
                await service.list("", cursor=cursor)


@pytest.mark.parametrize("size", [10, 200_000], ids=["small", "large"])
async def test_request_and_body_can_be_read_again(tmp_path: Path, runner: PlainRunner, size: int) -> None:
    """As they came in, whatever their size."""
    given = submission("job", body=b"x" * size, modifier="M", modifications={"text": "ä" * size, "nan": 2**70})
    async with service_in(tmp_path / "state", runner) as service:
        await service.submit(given)
        await service.wait("", "job", timeout_s=10)
        assert await service.request("", "job") == given.request
        assert await service.body("", "job") == given.body


async def test_waiting_has_a_limit(tmp_path: Path, held: PlainRunner) -> None:
    """Who waited long enough gets the job as it stands."""
    async with service_in(tmp_path / "state", held) as service:
        await service.submit(submission("job"))
        begun_at = time.monotonic()
        record = await service.wait("", "job", timeout_s=0.05)
        assert not record.is_terminal
        assert time.monotonic() - begun_at >= 0.05
        held.gate.set()


async def test_files_that_a_runner_puts_into_the_answer_are_kept(tmp_path: Path) -> None:
    """Base64 becomes a file; a path that is not of ours is forgotten; a URL stays."""
    foreign = tmp_path / "comfyui.png"
    foreign.write_bytes(b"content")
    base = {"name": "a.png", "kind": "image", "node_id": "9", "output_key": "images", "content_type": "image/png"}

    async def runner(request: JobRequest, **_: object) -> JobResult:
        inline = Artifact.model_validate({**base, "size_bytes": 7, "data": "Y29udGVudA==", "path": foreign})
        stored = Artifact.model_validate({**base, "size_bytes": 7, "url": "https://bucket/a.png", "path": foreign})
        text = Artifact.model_validate({**base, "size_bytes": 2, "text": "hi"})
        return JobResult(id=request.id, status=JobStatus.SUCCEEDED, artifacts=(inline, stored, text))

    async with JobService(runner, QueueSettings(), folder=tmp_path / "state", places=1) as service:
        await service.submit(submission("job"))
        record = await service.wait("", "job", timeout_s=10)
        assert record.result is not None
        inline, stored, text = record.result.artifacts
        assert inline.path is not None
        assert (inline.path.read_bytes(), inline.data) == (b"content", None)
        assert (stored.url, stored.path, stored.hash) == ("https://bucket/a.png", None, None)
        assert text.text == "hi"
        assert record.outputs == (inline, stored)
        answer = await service.inline(record.result)
        assert [artifact.data for artifact in answer.artifacts] == ["Y29udGVudA==", None, None]


async def test_everybody_hears_of_each_end(tmp_path: Path, runner: PlainRunner) -> None:
    """Metrics are told of each job that is over, once."""
    ended: list[JobRecord] = []
    service = JobService(runner, QueueSettings(), folder=tmp_path / "state", places=1, on_end=ended.append)
    async with service:
        for number in range(3):
            await service.submit(submission(f"job-{number}"))
            await service.wait("", f"job-{number}", timeout_s=10)
    assert [(record.id, record.status) for record in ended] == [
        (f"job-{number}", JobStatus.SUCCEEDED) for number in range(3)
    ]
