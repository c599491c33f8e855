"""What a dialect is: the shape of requests and answers that one kind of client knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pydantic import JsonValue

from comfyworker.jobs import JobRequest, JobResult


class Dialect(Protocol):
    """Parses requests and renders answers; does no I/O."""

    @property
    def name(self) -> str:
        """Its name in settings and requests."""

    def parse(self, body: object, *, new_id: Callable[[], str]) -> JobRequest:
        """Return the job that a request asks for; called once a request, before anything else is done with it.

        Args:
            body: The request as parsed JSON, of any shape.
            new_id: Gives an id for a request that brings none.

        Raises:
            WorkerError: with everything that is wrong with the request's shape.
        """

    def render(self, result: JobResult) -> dict[str, JsonValue]:
        """Return the answer for a job that has ended, well or not; called once a job."""
