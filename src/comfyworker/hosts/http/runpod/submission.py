"""A RunPod-shaped request: the job in `input`, and beside it what is RunPod's own.

Wire source: RunPod's documentation, "Send API requests": `webhook`, `policy {executionTimeout, ttl, lowPriority}` in
milliseconds, `s3Config`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from comfyworker.dialects import Dialect
from comfyworker.errors import InvalidRequest, Problem
from comfyworker.hosts.http.notes import BASE_URL, RUNPOD_WEBHOOK
from comfyworker.jobs import JobRequest, WebhookOptions
from comfyworker.service import Submission

API_NAME = "runpod"
_LOW_PRIORITY = -1
MOST_MS = 10**12


class Platform(NamedTuple):
    """What a request says to RunPod, and not to the worker."""

    execution_timeout_s: float | None = None
    ttl_s: float | None = None
    priority: int = 0
    webhook_url: str | None = None


def read_platform(body: object) -> Platform:
    """Return what stands beside `input`.

    Raises:
        InvalidRequest: with everything that is wrong with it, or with there being no `input`.
    """
    if not isinstance(body, Mapping) or body.get("input") is None:
        message = "the request has no 'input'"
        raise InvalidRequest(
            message,
            hint='Send {"input": {"workflow": {…}}}.',
            problems=[Problem(message=message, code="missing_input", path="input")],
        )
    problems: list[Problem] = []
    policy = _object(body, "policy", problems)
    _object(body, "s3Config", problems)
    read = Platform(
        execution_timeout_s=_seconds(policy, "executionTimeout", problems),
        ttl_s=_seconds(policy, "ttl", problems),
        priority=_priority(policy, problems),
        webhook_url=_webhook_url(body, problems),
    )
    if problems:
        raise InvalidRequest("; ".join(problem.message for problem in problems), problems=problems)
    return read


def make_submission(
    body: object, platform: Platform, dialect: Dialect, *, owner: str, base_url: str, new_id: Callable[[], str]
) -> Submission:
    """Return the job that a request asks for.

    Args:
        body: The request.
        platform: What stands beside its `input`.
        dialect: What its answer is rendered in.
        owner: Whose it is.
        base_url: The URL under which its client reached us.
        new_id: Gives an id for a request that brings none.

    Raises:
        WorkerError: with everything that is wrong with its `input`.
    """
    asked = dialect.parse(body, new_id=new_id)
    request = _with_platform(asked, platform)
    is_runpods = request.webhook is not None and request.webhook is not asked.webhook
    return Submission(
        request=request,
        api=API_NAME,
        dialect=dialect.name,
        owner=owner,
        priority=platform.priority,
        ttl_s=platform.ttl_s,
        meta={BASE_URL: base_url, RUNPOD_WEBHOOK: is_runpods},
    )


def _with_platform(request: JobRequest, platform: Platform) -> JobRequest:
    changes: dict[str, Any] = {}  # Any: each field has its own type
    limits = [limit for limit in (request.timeout_s, platform.execution_timeout_s) if limit is not None]
    if limits:
        changes["timeout_s"] = min(limits)
    own = request.webhook
    if platform.webhook_url and not (own and own.url):
        changes["webhook"] = (own or WebhookOptions()).model_copy(update={"url": platform.webhook_url})
    elif platform.webhook_url:
        changes["warnings"] = (*request.warnings, "webhook was ignored: input.webhook names another URL")
    return request.model_copy(update=changes) if changes else request


def _object(body: Mapping[str, Any], key: str, problems: list[Problem]) -> Mapping[str, Any]:
    """Return the object at `key`; an empty one where there is none."""
    value = body.get(key)
    if value is None or isinstance(value, Mapping):
        return value or {}
    problems.append(_problem(key, "must be an object"))
    return {}


def _seconds(policy: Mapping[str, Any], key: str, problems: list[Problem]) -> float | None:
    value = policy.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MOST_MS:
        problems.append(_problem(f"policy.{key}", "must be a positive number of milliseconds"))
        return None
    return value / 1000


def _priority(policy: Mapping[str, Any], problems: list[Problem]) -> int:
    value = policy.get("lowPriority")
    if value is not None and not isinstance(value, bool):
        problems.append(_problem("policy.lowPriority", "must be true or false"))
    return _LOW_PRIORITY if value is True else 0


def _webhook_url(body: Mapping[str, Any], problems: list[Problem]) -> str | None:
    value = body.get("webhook")
    if value is None or isinstance(value, str):
        return (value or "").strip() or None
    problems.append(_problem("webhook", "must be a URL"))
    return None


def _problem(path: str, what: str) -> Problem:
    return Problem(message=f"{path} {what}", code="wrong_type", path=path)
