"""What stands beside `input` in a RunPod-shaped request."""

import contextlib
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from comfyworker.dialects import dialect_named
from comfyworker.errors import InvalidRequest
from comfyworker.hosts.http.notes import BASE_URL, RUNPOD_WEBHOOK
from comfyworker.hosts.http.runpod.submission import make_submission, read_platform
from comfyworker.service import Submission

GRAPH = {"1": {"class_type": "SaveImage", "inputs": {}}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def submit(**beside: Any) -> Submission:
    """Return the submission of a small job."""
    body = {"input": {"workflow": GRAPH, **beside.pop("job", {})}, **beside}
    return make_submission(
        body,
        read_platform(body),
        dialect_named("worker-comfyui"),
        owner="me",
        base_url="https://worker.test",
        new_id=lambda: "new",
    )


def test_what_is_not_said_is_the_workers() -> None:
    """Without a policy nothing is set."""
    made = submit()
    assert (made.request.id, made.owner, made.api, made.dialect) == ("new", "me", "runpod", "worker-comfyui")
    assert (made.priority, made.ttl_s, made.request.timeout_s, made.request.webhook) == (0, None, None, None)
    assert made.meta == {BASE_URL: "https://worker.test", RUNPOD_WEBHOOK: False}


@pytest.mark.parametrize(
    ("timeout", "policy", "expected"),
    [(None, 1500, 1.5), (2, None, 2.0), (2, 1500, 1.5), (1, 1500, 1.0)],
)
def test_the_shorter_time_limit_holds(timeout: float | None, policy: int | None, expected: float) -> None:
    """RunPod's milliseconds and the request's own seconds both end the job."""
    made = submit(job={"timeout": timeout}, policy={"executionTimeout": policy})
    assert made.request.timeout_s == expected


def test_ttl_and_low_priority() -> None:
    """Milliseconds become seconds; who is in no hurry comes after all others."""
    made = submit(policy={"ttl": 90_000, "lowPriority": True, "somethingNew": 1})
    assert (made.ttl_s, made.priority) == (90.0, -1)


def test_the_webhook_beside_the_input() -> None:
    """It is told in RunPod's words, and keeps what `input.webhook` says beside a URL."""
    made = submit(webhook=" https://me.test/hook ", job={"webhook": {"extra_params": {"order": 7}}})
    assert made.request.webhook is not None
    assert (made.request.webhook.url, made.request.webhook.extra_params) == ("https://me.test/hook", {"order": 7})
    assert made.meta[RUNPOD_WEBHOOK] is True


def test_two_webhooks() -> None:
    """The one in `input` is told, in its own words, and the answer says that the other was not."""
    made = submit(webhook="https://a.test/", job={"webhook": {"url": "https://b.test/"}})
    assert made.request.webhook is not None
    assert made.request.webhook.url == "https://b.test/"
    assert made.request.warnings == ("webhook was ignored: input.webhook names another URL",)
    assert made.meta[RUNPOD_WEBHOOK] is False


@hypothesis.given(body=JSON | st.fixed_dictionaries({"input": JSON, "policy": JSON, "webhook": JSON}))
def test_no_request_breaks_it(body: object) -> None:
    """However odd, it is read or refused."""
    with contextlib.suppress(InvalidRequest):
        read_platform(body)
