"""Jobs on which ComfyUI has ended: the same one again is not sent again."""

import base64
from typing import Any

from comfyworker.comfyui.crashes import CrashRecord
from comfyworker.errors import ComfyUICrashed
from comfyworker.hosts.http.vast.codes import code_of_error
from comfyworker.jobs import InputFile, JobRequest


def job(**more: Any) -> JobRequest:
    """Return a job with an id of its own."""
    graph = {"1": {"class_type": "EmptyImage", "inputs": {}}}
    return JobRequest.model_validate({"id": f"job-{id(more)}", "workflow": graph, **more})


def image(content: bytes) -> InputFile:
    """Return an input file."""
    return InputFile(name="a.png", data=base64.b64encode(content).decode())


def crash() -> ComfyUICrashed:
    """Return what a job fails with."""
    return ComfyUICrashed("ComfyUI ended", hint="Look at its log.", details={"exit_code": 1})


def test_the_second_time_it_is_final() -> None:
    """Whatever the job is called; on Vast, whose clients send again for ever what is a 5xx, it is a 422."""
    record = CrashRecord()
    first, second, third = (record.judge(job(id=f"job-{number}", timeout_s=number), crash()) for number in range(3))
    assert [error.retryable for error in (first, second, third)] == [True, False, False]
    assert [code_of_error(error).status for error in (first, second, third)] == [502, 422, 422]
    assert (third.code, third.details) == ("comfyui_crashed", {"exit_code": 1, "crashes": 3})


def test_another_job_is_not_to_blame() -> None:
    """Another workflow, another value or another picture may have nothing to do with it."""
    record = CrashRecord()
    others = [
        job(),
        job(workflow={"1": {"class_type": "EmptyImage", "inputs": {"width": 64}}}),
        job(shortcuts={"seed": 7}),
        job(files=(image(b"one"),)),
        job(files=(image(b"two"),)),
    ]
    assert [record.judge(other, crash()).retryable for other in others] == [True] * len(others)


def test_only_so_many_are_remembered() -> None:
    """The oldest is forgotten."""
    record = CrashRecord()
    for number in range(300):
        record.judge(job(shortcuts={"seed": number}), crash())
    assert record.judge(job(shortcuts={"seed": 0}), crash()).retryable
    assert not record.judge(job(shortcuts={"seed": 299}), crash()).retryable
