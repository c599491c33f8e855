"""Texts that are not whole, and numbers of any size, on their way through the service."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from comfyworker.jobs import JobRequest, JobResult, JobStatus, Progress
from comfyworker.service import EventKind, JobService, LogLine, kept_delivery
from comfyworker.service.packing import pack, unpack, whole_text
from comfyworker.settings import QueueSettings
from strategies import json_values
from support.artifacts import file_artifact
from support.service import PlainRunner, submission

HALF = "caf\udce9"
"""A name that is no UTF-8 on the disk, as Python has it."""


@given(json_values() | st.dictionaries(st.text(st.characters()), st.integers() | st.text(st.characters())))
def test_what_is_packed_comes_back(value: JsonValue) -> None:
    """Half surrogate pairs and integers of any size included."""
    assert unpack(pack(value)) == value


@given(st.text(st.characters()))
def test_whole_text_can_be_written_anywhere(text: str) -> None:
    """What is whole stays as it is."""
    whole = whole_text(text)
    assert len(whole.encode().decode()) == len(text)
    assert whole_text(whole) == whole


async def test_odd_texts_of_a_job_break_nothing(tmp_path: Path) -> None:
    """A file's name that is no UTF-8, in a warning, in the progress: the job succeeds, and is there after a restart."""
    made = PlainRunner(tmp_path / "made")

    async def runner(request: JobRequest, **tell: object) -> JobResult:
        on_progress = tell["on_progress"]
        assert callable(on_progress)
        on_progress(Progress(value=0.5, message=HALF, current_node=HALF))
        file = file_artifact(made.make_file(request.id).path or Path(), name=f"{HALF}.png")
        artifacts = await kept_delivery(request).deliver([file])
        return JobResult(
            id=request.id,
            status=JobStatus.SUCCEEDED,
            artifacts=artifacts,
            warnings=(HALF,),
            used={HALF: 2**80},
        )

    for _ in range(2):
        async with JobService(runner, QueueSettings(), folder=tmp_path / "state", places=1) as service:
            await service.submit(submission("job", meta={"label": HALF, "number": 2**80}))
            job = await service.wait("", "job", timeout_s=10)
            events = [event async for event in service.events("", "job")]
            [output] = job.outputs
            asset = await service.assets.get(output.asset_id, owner="")
        assert (job.status, output.name, asset.name) == (JobStatus.SUCCEEDED, "caf?.png", "caf?.png")
        assert job.result is not None
        assert (job.result.warnings, job.result.used) == ((HALF,), {HALF: 2**80})
        assert job.meta == {"label": HALF, "number": 2**80}
        assert [event.data.message for event in events if isinstance(event.data, LogLine)] == [HALF]
        assert [event.data.message for event in events if isinstance(event.data, Progress)] == [HALF]
        assert events[-1].kind is EventKind.STATUS
