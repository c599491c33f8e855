"""A job while it is not over: its record in memory, its events, and the task that runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from comfyworker.jobs import Artifact, JobRequest, JobStatus, Progress, WebhookOptions
from comfyworker.service.events import Event, EventKind, EventLog, LogLine, Preview, StatusChange
from comfyworker.service.records import JobRecord, KeptArtifact


class LiveJob:
    """One job that is not over yet."""

    def __init__(self, key: str, arrival: int, record: JobRecord, *, queue_until: float, events: EventLog) -> None:
        """Begin with `record`.

        Args:
            key: The job's name in the database and on the disk.
            arrival: Which of the jobs that came to this server it is; a clock may be set back.
            record: As it stands.
            queue_until: When it has waited too long, in seconds of Unix time.
            events: Where its news go.
        """
        self.key = key
        self.arrival = arrival
        self.record = record
        self.queue_until = queue_until
        self.events = events
        self.request: JobRequest | None = None
        """The request, if it need not be read again because the job begins at once."""
        self.secret_parts: dict[str, Any] = {}  # Any: each field has its own type
        """The fields of the request that are not in the database."""
        self.webhook: WebhookOptions | None = None
        """Whom the request names to be told of the job."""
        self.is_webhook_known = False
        """Whether the request has been read since the service began, and `webhook` is what it says."""
        self.is_begin_written = False
        """Whether the database says already that it runs."""
        self.runner: asyncio.Task[Any] | None = None  # Any: what came of it is told elsewhere
        """What runs it, while it does."""
        self.is_ending = False
        """Whether what came of it is being written; nothing changes it any more."""
        self.cancel_wanted = False
        """Whether somebody has asked for its cancellation."""
        self.has_leftovers = False
        """Whether an earlier run may have left files."""
        self.over = asyncio.Event()
        """Set when `record` is the last one, or when the service closes."""
        self.over_or_held_up = asyncio.Event()
        """Set then, and before that when the disk does not take what came of it."""
        self.on_output: Callable[[KeptArtifact], None] | None = None
        """Called for each file of it that is kept."""

    def let_go(self, last: Event | None = None) -> None:
        """Have nobody wait for it or listen to it any more; `last` is what listeners are still told."""
        self.events.close(last)
        self.over.set()
        self.over_or_held_up.set()

    def hold_up(self) -> None:
        """Have nobody wait any longer who asked for its end: the disk does not take it now."""
        if self.cancel_wanted and self.record.status is JobStatus.QUEUED:
            self.change_status(JobStatus.CANCELING)
        self.over_or_held_up.set()

    @property
    def place_in_line(self) -> tuple[int, int]:
        """What the waiting jobs are sorted by."""
        return -self.record.priority, self.arrival

    def note_webhook(self, request: JobRequest) -> None:
        """Remember whom the request names to be told of the job."""
        self.webhook, self.is_webhook_known = request.webhook, True

    def update(self, **changes: object) -> None:
        """Have a record with other values."""
        self.record = self.record.model_copy(update=changes)

    def change_status(self, status: JobStatus, *, queue_position: int | None = None, **changes: object) -> None:
        """Have another status and tell of it."""
        self.update(status=status, **changes)
        self.events.tell(EventKind.STATUS, StatusChange(status, queue_position))

    def tell_progress(self, progress: Progress) -> None:
        """Take the runner's progress; called for every change of it."""
        self.update(progress=progress)
        self.events.tell(EventKind.PROGRESS, progress)

    def tell_output(self, artifact: Artifact) -> None:
        """Take a file that the runner has delivered."""
        if isinstance(artifact, KeptArtifact) and artifact.is_file:
            self.update(outputs=(*self.record.outputs, artifact))
            if self.on_output is not None:
                self.on_output(artifact)
            self.events.tell(EventKind.OUTPUT, artifact)

    def tell_preview(self, node_id: str, content_type: str, data: bytes) -> None:
        """Take a picture of what a node is at."""
        self.events.tell(EventKind.PREVIEW, Preview(node_id, content_type, data))

    def tell_log(self, level: str, message: str) -> None:
        """Tell people something of the job."""
        self.events.tell(EventKind.LOG, LogLine(level, message))
