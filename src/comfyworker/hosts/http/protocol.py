"""What an API on this server is: its routes, and how its clients are told of errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.responses import Response

from comfyworker.errors import WorkerError
from comfyworker.hosts.http.routing import Router


@dataclass(frozen=True)
class HttpApi:
    """One family of clients."""

    name: str
    """As the service's records have it (`Submission.api`)."""
    prefixes: tuple[str, ...]
    """Its paths: `/generate` is `/generate` itself and all below it. Errors under them are told in its shape."""
    router: Callable[[], Router]
    """Makes its routes; called once for each app."""
    render_error: Callable[[WorkerError], Response]
    """Makes the answer for an error that no route has answered: also wrong paths, methods and keys."""

    def has(self, path: str) -> bool:
        """Tell whether `path` is one of this API's."""
        return any(path == prefix or path.startswith(prefix.rstrip("/") + "/") for prefix in self.prefixes)
