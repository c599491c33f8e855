"""Who is told of one job: what the request says, and what the worker's settings say where it is silent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue, SecretStr

from comfyworker.errors import InvalidRequest, InvalidSettings, Problem
from comfyworker.jobs import JobRequest, WebhookEvent, WebhookOptions
from comfyworker.outbound.addresses import host_refusal
from comfyworker.outbound.targets import TargetRefused, parse_target
from comfyworker.settings import WebhookSettings
from comfyworker.webhooks.encoding import encode

_LONGEST_TIMEOUT_S = 300.0  # So that hosts which never answer cannot hold all places for long.


@dataclass(frozen=True, eq=False, kw_only=True)
class Hook:
    """Who is told of one job; made once for it, so its identity stands for the job."""

    job_id: str
    url: str = field(repr=False)
    events: frozenset[WebhookEvent]
    extra_params: Mapping[str, JsonValue] = field(repr=False)
    """The caller's own, sent back with every event."""
    timeout_s: float
    secret: SecretStr | None
    """The request's own; empty means that nothing is signed, None that the worker's secret signs."""
    is_operators: bool
    """Whether the URL is the worker's own, which may lead to a private network."""

    def wants(self, event: WebhookEvent) -> bool:
        """Tell whether anybody is to hear of `event`."""
        return event in self.events


def make_hook(request: JobRequest, settings: WebhookSettings, *, allow_private_urls: bool) -> Hook | None:
    """Return who is told of a job, None if nobody is; names are not resolved yet.

    Raises:
        InvalidRequest: with all that is wrong with what the request says.
    """
    options = request.webhook or WebhookOptions()
    own_url = (options.url or "").strip()
    url = own_url or (settings.url or "").strip()
    if not url:
        return None
    problems = [
        *(_url_problems(own_url, allow_private_urls=allow_private_urls) if own_url else ()),
        *_timeout_problems(options.timeout_s),
        *_secret_problems(options.secret),
        *_extra_problems(options.extra_params, settings.max_body_bytes),
    ]
    if problems:
        hints = dict.fromkeys(hint for _, hint in problems)
        raise InvalidRequest(
            "; ".join(problem.message for problem, _ in problems),
            hint=" ".join(hints),
            problems=[problem for problem, _ in problems],
        )
    return Hook(
        job_id=request.id,
        url=url,
        events=options.events,
        extra_params=options.extra_params,
        timeout_s=min(options.timeout_s or settings.timeout_s, _LONGEST_TIMEOUT_S),
        secret=options.secret,
        is_operators=not own_url,
    )


def check_settings(settings: WebhookSettings) -> None:
    """Look whether the worker's own webhook can be told anything.

    Raises:
        InvalidSettings: WEBHOOK_URL is no http(s) URL.
    """
    if settings.url is None or not settings.url.strip():
        return
    try:
        parse_target(settings.url, allow_credentials=True)
    except TargetRefused as refused:
        message = f"WEBHOOK_URL {refused.reason}"
        raise InvalidSettings(
            message,
            hint="Give a whole URL, http:// or https://, with special characters escaped.",
            problems=[Problem(message=message, code="invalid_url", path="WEBHOOK_URL")],
        ) from None  # The chain would show the URL.


def _url_problems(url: str, *, allow_private_urls: bool) -> list[tuple[Problem, str]]:
    """Return what is wrong with a URL of the request, with a hint each; of a name, only its reading is looked at."""
    try:
        target = parse_target(url)
    except TargetRefused as refused:
        hint = (
            "Name a webhook without a password; `webhook.secret` lets the receiver know who calls."
            if refused.has_credentials
            else "Give a whole URL, http:// or https://, with special characters escaped."
        )
        return [(_problem("url", refused.reason, "invalid_url"), hint)]
    reason = host_refusal(target.host or "", allow_private=allow_private_urls)
    if reason is None:
        return []
    hint = "Give a URL that anybody can reach. ALLOW_PRIVATE_URLS of the worker opens private networks."
    return [(_problem("url", f"leads to {reason}, which is not called", "url_refused"), hint)]


def _timeout_problems(timeout_s: float | None) -> list[tuple[Problem, str]]:
    if timeout_s is None or (timeout_s > 0 and math.isfinite(timeout_s)):
        return []
    problem = _problem("timeout", "is no time that an attempt may take", "value_out_of_range")
    return [(problem, "Give seconds, more than 0.")]


def _secret_problems(secret: SecretStr | None) -> list[tuple[Problem, str]]:
    try:
        (secret or SecretStr("")).get_secret_value().encode()
    except UnicodeEncodeError:
        return [(_problem("secret", "is not text", "invalid_value"), "Give `whsec_` and base64, or plain text.")]
    return []


def _extra_problems(extra: Mapping[str, JsonValue], max_body_bytes: int) -> list[tuple[Problem, str]]:
    size = len(encode(dict(extra)))
    if 2 * size <= max_body_bytes:  # They go out twice, see `message`.
        return []
    message = f"takes {size} bytes, of which a webhook takes no more than {max_body_bytes // 2}"
    hint = "Send an id and keep the rest with you. WEBHOOK_MAX_BYTES of the worker sets the limit."
    return [(_problem("extra_params", message, "value_out_of_range"), hint)]


def _problem(name: str, reason: str, code: str) -> Problem:
    return Problem(message=f"webhook.{name} {reason}", code=code, path=f"webhook.{name}")
