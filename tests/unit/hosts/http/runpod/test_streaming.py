"""How far a job's stream has been read."""

from comfyworker.hosts.http.runpod.streaming import StreamMarks
from comfyworker.jobs import ArtifactKind, JobStatus
from comfyworker.service import JobRecord, KeptArtifact


def artifact(name: str) -> KeptArtifact:
    """Return a file."""
    return KeptArtifact(
        name=name, kind=ArtifactKind.IMAGE, node_id="9", output_key="images", content_type="image/png", size_bytes=1
    )


def record(*names: str, job_id: str = "a", owner: str = "", created_at: float = 1.0) -> JobRecord:
    """Return a job that has made these files."""
    return JobRecord(
        owner=owner,
        id=job_id,
        api="runpod",
        dialect="worker-comfyui",
        status=JobStatus.RUNNING,
        created_at=created_at,
        outputs=tuple(artifact(name) for name in names),
    )


def taken(marks: StreamMarks, job: JobRecord) -> list[str]:
    """Return the names of the files that are handed out."""
    return [each.name for each in marks.take(job)]


def test_each_file_is_handed_out_once() -> None:
    """Only what is new since the last call comes."""
    marks = StreamMarks()
    assert taken(marks, record()) == []
    assert taken(marks, record("1", "2")) == ["1", "2"]
    assert taken(marks, record("1", "2", "3")) == ["3"]
    assert taken(marks, record("1", "2", "3")) == []


def test_jobs_are_told_apart() -> None:
    """Another owner's job of the same id has a stream of its own, and so has a second try."""
    marks = StreamMarks()
    assert taken(marks, record("1")) == ["1"]
    assert taken(marks, record("1", owner="other")) == ["1"]
    assert taken(marks, record("1", created_at=2.0)) == ["1"]


def test_a_job_that_begins_anew_has_fewer_files() -> None:
    """What was handed out before a restart is not handed out again."""
    marks = StreamMarks()
    assert taken(marks, record("1", "2")) == ["1", "2"]
    assert taken(marks, record("1")) == []
    assert taken(marks, record("1", "2", "3")) == ["3"]


def test_memory_is_bounded() -> None:
    """The job that nobody has asked for longest is forgotten."""
    marks = StreamMarks(most_jobs=2)
    for job_id in ("a", "b", "a", "c"):
        marks.take(record("1", job_id=job_id))
    assert taken(marks, record("1", job_id="a")) == []
    assert taken(marks, record("1", job_id="b")) == ["1"]
