"""Lists of jobs: page by page, and only those with certain labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pydantic import JsonValue
from starlette.datastructures import QueryParams

from comfyworker.dialects.comfy_api_v2 import INVALID_CURSOR, INVALID_METADATA_FILTER
from comfyworker.errors import InvalidRequest, Problem
from comfyworker.hosts.http.comfy_v2.answers import LABELS
from comfyworker.hosts.http.comfy_v2.submission import API_NAME
from comfyworker.jobs import JobStatus
from comfyworker.service import JobPage, JobRecord, JobService

_FILTER = re.compile(r"metadata(?:\[(?P<label>.*)\])?", re.DOTALL)
_MAX_LABELS = 16
_MOST_PAGES = 20
"""How many pages are read for one that has something in it; the next one goes on from there."""


async def list_jobs(
    service: JobService,
    owner: str,
    *,
    labels: Mapping[str, str],
    statuses: Sequence[JobStatus],
    limit: int,
    cursor: str | None,
) -> JobPage:
    """Return some of an owner's jobs, newest first; a page may be empty although others follow.

    Raises:
        InvalidRequest: `cursor` is none of ours.
    """
    try:
        for _ in range(_MOST_PAGES):
            page = await service.list(owner, limit=limit, cursor=cursor, statuses=statuses, api=API_NAME)
            jobs = tuple(record for record in page.jobs if has_labels(record, labels))
            if jobs or page.next_cursor is None:
                break
            cursor = page.next_cursor
    except InvalidRequest as error:
        problems = [problem.model_copy(update={"code": INVALID_CURSOR}) for problem in error.problems]
        raise InvalidRequest(error.message, hint=error.hint, problems=problems) from error
    return JobPage(jobs=jobs, next_cursor=page.next_cursor)


def has_labels(record: JobRecord, labels: Mapping[str, str]) -> bool:
    """Tell whether a job has all of these labels."""
    own: JsonValue = record.meta.get(LABELS)
    return not labels or (isinstance(own, dict) and all(own.get(name) == value for name, value in labels.items()))


def read_filter(query: QueryParams) -> dict[str, str]:
    """Return the labels that are asked for as `metadata[label]=text`.

    Raises:
        InvalidRequest: there are too many, or one is misspelt.
    """
    labels: dict[str, str] = {}
    for name, value in query.multi_items():
        found = _FILTER.fullmatch(name)
        if found is None:
            continue
        label = found["label"]
        if not label or labels.get(label, value) != value:
            raise _refused(f"{name[:80]} is no filter: it must be metadata[label]=text, each label once")
        labels[label] = value
    if len(labels) > _MAX_LABELS:
        raise _refused(f"there are {len(labels)} metadata filters, more than the {_MAX_LABELS} that a job may have")
    return labels


def _refused(message: str) -> InvalidRequest:
    return InvalidRequest(message, problems=[Problem(message=message, code=INVALID_METADATA_FILTER, path="metadata")])
