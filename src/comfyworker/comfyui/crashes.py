"""Jobs on which ComfyUI has ended, so that one that ends it again and again is not sent again and again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

import orjson

from comfyworker.errors import ComfyUICrashed
from comfyworker.jobs import JobRequest

FINAL_AFTER: Final = 2
"""How often ComfyUI may end on one and the same job until that job counts as the cause."""
_MOST_KEPT = 200
_WHAT_RUNS = frozenset({"workflow", "gui_workflow", "modifier", "modifications", "overrides", "shortcuts", "files"})


class CrashRecord:
    """Counts ComfyUI's ends by what was asked for; the same job sent again has another id and the same content."""

    def __init__(self) -> None:
        """Know of none."""
        self._counts: OrderedDict[bytes, int] = OrderedDict()

    def judge(self, request: JobRequest, error: ComfyUICrashed) -> ComfyUICrashed:
        """Note that ComfyUI has ended on a job; return what it fails with.

        The first time, chance or another program may be the cause, and the job may be sent again. Then it may not: who
        sends it on every failure, as Vast's client does, would have every worker's ComfyUI end. Hashes the request's
        files, so it blocks for a moment.
        """
        content = request.model_dump(mode="json", include=set(_WHAT_RUNS))
        key = hashlib.blake2b(orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
        count = self._counts.get(key, 0) + 1
        self._counts[key] = count
        self._counts.move_to_end(key)
        while len(self._counts) > _MOST_KEPT:
            self._counts.popitem(last=False)
        if count < FINAL_AFTER:
            return error
        return type(error)(
            f"{error.message}; it has ended on this job {count} times",
            hint="The job is likely to be the cause: it may need more memory than there is, or a node of it is broken. "
            "The last lines of ComfyUI's log say more.",
            details={**error.details, "crashes": count},
            retryable=False,
        )
