"""How large answers may be: RunPod drops what is larger, and the client hears nothing.

Wire source: RunPod's documentation, "Send API requests" (payloads of /run: 10 MB, of /runsync: 20 MB), "Streaming
handlers" (one piece: 1 MB). The ids of /runsync's jobs begin with `sync-`.
"""

from __future__ import annotations

from typing import Final

from comfyworker.jobs import JobRequest

PIECE_LIMIT_BYTES: Final = 1_000_000
"""The largest piece of a stream."""
_RUN_LIMIT_BYTES: Final = 10_000_000
_RUNSYNC_LIMIT_BYTES: Final = 20_000_000
_SYNC: Final = "sync-"
_ENVELOPE_BYTES: Final = 64_000  # what the SDK and the platform write round an answer, generously


def answer_limit_bytes(request: JobRequest) -> int:
    """Return how many bytes the answer to a job may have; the job's id is the platform's."""
    return limit_for_id(request.id)


def limit_for_id(job_id: str) -> int:
    """Return how many bytes the answer to the job of this id may have."""
    limit = _RUNSYNC_LIMIT_BYTES if job_id.startswith(_SYNC) else _RUN_LIMIT_BYTES
    return limit - _ENVELOPE_BYTES
