"""Which requests a worker on Vast.ai takes now, and which are better off elsewhere.

Vast's client sends a request again on 429 and on 5xx, to whichever worker the autoscaler then names, and gives up on
every other failure. So 429 stands for "too much waits here", 503 for "not here, not yet", and neither for anything
that would happen again elsewhere. Wire source: Vast's SDK, `client/connection.py` `_retryable`.
"""

from __future__ import annotations

from collections.abc import Callable

from comfyworker.errors import ComfyUIUnavailable, QueueFull, TooBusy
from comfyworker.hosts.vast.ledger import Ledger

_NOT_YET_AFTER_S = 5.0


class Admission:
    """Looks at a request before it is taken."""

    def __init__(self, ledger: Ledger, *, max_queue_time_s: float, is_draining: Callable[[], bool]) -> None:
        """Judge by what `ledger` holds.

        Args:
            ledger: The work that is under way, and how fast this worker is.
            max_queue_time_s: Seconds of work that may be under way when one more request is taken.
            is_draining: Tells whether the server takes nothing more.
        """
        self._ledger = ledger
        self._max_queue_time_s = max_queue_time_s
        self._is_draining = is_draining

    def reason_to_wait(self) -> str | None:
        """Return why no request is taken yet, or any more; None if they are."""
        if self._ledger.error_message:
            return self._ledger.error_message
        return None if self._ledger.is_loaded else "the worker is starting, and has not been rated yet"

    def check_ready(self) -> None:
        """Refuse while nothing can be taken.

        Raises:
            QueueFull: the server shuts down.
            ComfyUIUnavailable: the worker is starting, or broken.
        """
        if self._is_draining():
            raise QueueFull(
                "the worker is shutting down", hint="Send the request again: another worker takes it.", details=_AFTER
            )
        reason = self.reason_to_wait()
        if reason is not None:
            raise ComfyUIUnavailable(
                f"this worker takes no jobs now: {reason}",
                hint="Send the request again: another worker takes it.",
                details=_AFTER,
            )

    def check(self) -> None:
        """Refuse what would wait for too long.

        Raises:
            QueueFull: the server shuts down.
            ComfyUIUnavailable: the worker is starting, or broken.
            TooBusy: the work that is under way takes longer than a request may wait.
        """
        self.check_ready()
        queue_time_s = self._ledger.queue_time_s
        if queue_time_s > self._max_queue_time_s:
            raise TooBusy(
                f"the work that is under way here takes another {queue_time_s:.0f} s",
                hint="Send the request again, to another worker or later; MAX_QUEUE_TIME_S says how much may wait.",
                details={"retry_after_s": max(queue_time_s - self._max_queue_time_s, 1.0)},
            )


_AFTER = {"retry_after_s": _NOT_YET_AFTER_S}
