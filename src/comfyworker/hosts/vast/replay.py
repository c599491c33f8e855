"""Requests that were answered already, so that nobody sends them again.

A reqnum is good for one answer. One that was turned away, failed, or lost its client before the answer may come again:
Vast's client asks /route/ anew after a 429, a 5xx or a cut connection, and nobody promises it another number there.
Numbers come out of order, since clients work side by side.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from comfyworker.errors import TooBusy, Unauthorized
from comfyworker.hosts.vast.signatures import AuthData, RequestKey, SignedForm

_REMEMBERED = 10_000
_RETRY_AFTER_S = 1.0


@dataclass(eq=False)
class Replays:
    """Knows which requests are at work and which were answered; memory is bounded."""

    remembered: int = _REMEMBERED
    """How many answered requests are known one by one."""
    _at_work: set[RequestKey] = field(default_factory=set)
    _answered: OrderedDict[RequestKey, SignedForm] = field(default_factory=OrderedDict)
    _floor: int | None = None
    """The highest signed reqnum that was answered and is not known one by one any more."""

    def begin(self, auth: AuthData, form: SignedForm) -> None:
        """Let a request begin, unless it was answered or is at work.

        Where the reqnum is signed, one at or below all that is remembered is refused too. Where it is not, whoever
        replays could choose another number anyhow; refusing old ones would only lock out Vast after a restart there.

        Raises:
            Unauthorized: it was answered before.
            TooBusy: it is at work just now; its end decides.
        """
        if form is SignedForm.NONE:
            return
        if auth.key in self._at_work:
            raise TooBusy(
                f"request {auth.request_idx} (reqnum {auth.reqnum}) is at work already",
                hint="Wait for the answer to the first one.",
                details={"retry_after_s": _RETRY_AFTER_S},
            )
        too_old = form is SignedForm.WHOLE and self._floor is not None and auth.reqnum <= self._floor
        if too_old or auth.key in self._answered:
            raise Unauthorized(
                f"reqnum {auth.reqnum} of request {auth.request_idx} was used already",
                hint="Ask Vast's /route/ for a worker again: each of its answers is good for one request.",
            )
        self._at_work.add(auth.key)

    def end(self, auth: AuthData, form: SignedForm, *, answered: bool) -> None:
        """Note the end of a request that was let begin.

        Args:
            auth: What it came with.
            form: How that was signed.
            answered: Whether its answer is final: not 429, 499 or 5xx. If not, it may come again.
        """
        self._at_work.discard(auth.key)
        if not answered or form is SignedForm.NONE:
            return
        self._answered[auth.key] = form
        while len(self._answered) > self.remembered:
            key, form_then = self._answered.popitem(last=False)
            if form_then is SignedForm.WHOLE:
                self._floor = key.reqnum if self._floor is None else max(self._floor, key.reqnum)
