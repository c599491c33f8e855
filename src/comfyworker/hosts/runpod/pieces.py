"""What RunPod's `/stream` is given of a job: its progress and its files as they come, the whole answer last."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import JsonValue

from comfyworker.dialects import Dialect
from comfyworker.hosts.runpod.limits import PIECE_LIMIT_BYTES
from comfyworker.hosts.runpod.outcome import Answer, json_bytes
from comfyworker.jobs import Artifact, JobResult, JobStatus, Progress

Put = Callable[[Answer], None]


def progress_document(progress: Progress) -> dict[str, JsonValue]:
    """Return a job's progress as `/status` shows it."""
    return {"progress": progress.model_dump(mode="json")}


class Pieces:
    """Makes the pieces of one job's stream; what the platform would not take as a piece is only in the answer."""

    def __init__(self, dialect: Dialect, put: Put) -> None:
        """Give pieces in the words of `dialect` to `put`."""
        self._dialect = dialect
        self._put = put

    def progress(self, progress: Progress) -> None:
        """Tell how far the job is."""
        self._put(Answer(progress_document(progress)))

    def artifact(self, artifact: Artifact) -> None:
        """Tell of a file that has been delivered: the answer of a job that had no other."""
        shown = artifact.model_copy(update={"path": None})
        alone = JobResult(id="", status=JobStatus.SUCCEEDED, artifacts=(shown,))
        self._put_if_it_fits(Answer(self._dialect.render(alone)))

    def answer(self, answer: Answer) -> None:
        """Tell the whole answer; one of a job that failed is the platform's to tell."""
        if not answer.is_failed:
            self._put_if_it_fits(Answer(answer))

    def _put_if_it_fits(self, piece: Answer) -> None:
        if json_bytes(piece) <= PIECE_LIMIT_BYTES:
            self._put(piece)
