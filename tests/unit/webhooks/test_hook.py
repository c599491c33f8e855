"""Who is told of a job: the request before the settings, and what is refused before the job runs."""

import pytest
from pydantic import JsonValue, SecretStr

from comfyworker.errors import InvalidRequest, InvalidSettings
from comfyworker.jobs import FINAL_EVENTS, JobRequest, WebhookEvent, WebhookOptions
from comfyworker.settings import WebhookSettings
from comfyworker.webhooks.hook import Hook, check_settings, make_hook

OWN = WebhookSettings(url="http://10.0.0.5/own?token=5ecre7", secret=SecretStr("the worker's"), timeout_s=12)
URL = "https://example.com/hook?token=5ecre7"


def made(options: WebhookOptions | None, settings: WebhookSettings = OWN, *, is_open: bool = False) -> Hook | None:
    """Return the hook of a job with these options."""
    request = JobRequest(id="job-1", webhook=options)
    return make_hook(request, settings, allow_private_urls=is_open)


def refused(**options: object) -> InvalidRequest:
    """Return the refusal of a request with these options."""
    with pytest.raises(InvalidRequest) as caught:
        made(WebhookOptions.model_validate(options))
    assert "5ecre7" not in repr(caught.value.to_dict())
    return caught.value


@pytest.mark.parametrize("options", [None, WebhookOptions(), WebhookOptions(url=" ", extra_params={"a": 1})])
def test_nobody_is_told(options: WebhookOptions | None) -> None:
    """Without a URL in request and settings, or with a blank one, there is no hook."""
    assert made(options, WebhookSettings()) is None


def test_the_workers_own_is_told_of_ends() -> None:
    """Without a word of the request, the settings say all; a private network is the operator's to name."""
    hook = made(None)
    assert hook is not None
    assert (hook.url, hook.is_operators, hook.events) == (OWN.url, True, FINAL_EVENTS)
    assert (hook.timeout_s, hook.secret, hook.extra_params) == (12, None, {})


def test_the_request_goes_before_the_settings() -> None:
    """Field by field: what the request does not say comes from the settings."""
    events = frozenset({WebhookEvent.STARTED})
    hook = made(WebhookOptions(url=URL, events=events, extra_params={"a": 1}, secret=SecretStr("mine")))
    assert hook is not None
    assert (hook.url, hook.is_operators, hook.timeout_s) == (URL, False, 12)
    assert (hook.secret, hook.extra_params) == (SecretStr("mine"), {"a": 1})
    assert (hook.wants(WebhookEvent.STARTED), hook.wants(WebhookEvent.COMPLETED)) == (True, False)


def test_extras_can_go_to_the_workers_own() -> None:
    """A request without a URL sends its own words to WEBHOOK_URL."""
    hook = made(WebhookOptions(extra_params={"order": 7}, timeout_s=3))
    assert hook is not None
    assert (hook.url, hook.extra_params, hook.timeout_s) == (OWN.url, {"order": 7}, 3)


def test_an_attempt_does_not_take_for_ever() -> None:
    """A time beyond five minutes is taken for five minutes."""
    hook = made(WebhookOptions(url=URL, timeout_s=1e9))
    assert hook is not None
    assert hook.timeout_s == 300


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ftp://example.com/?token=5ecre7", "invalid_url"),
        ("example.com/hook?token=5ecre7", "invalid_url"),
        ("https://user:5ecre7@example.com/", "invalid_url"),
        ("https:///hook?token=5ecre7", "invalid_url"),
        ("https://a b/?token=5ecre7", "invalid_url"),
        ("http://127.0.0.1/?token=5ecre7", "url_refused"),
        ("http://[::1]:80/?token=5ecre7", "url_refused"),
        ("http://LOCALHOST/?token=5ecre7", "url_refused"),
        ("http://a.localhost/?token=5ecre7", "url_refused"),
        ("http://169.254.169.254/?token=5ecre7", "url_refused"),
        ("http://[fe80::1%25eth0]/?token=5ecre7", "url_refused"),
    ],
)
def test_a_url_that_cannot_be_called_is_refused(url: str, code: str) -> None:
    """Before the job runs, naming the field and no more of the URL."""
    error = refused(url=url)
    assert [(problem.code, problem.path) for problem in error.problems] == [(code, "webhook.url")]
    assert error.hint


def test_a_private_url_is_taken_where_these_are_open() -> None:
    """ALLOW_PRIVATE_URLS opens private networks to requests, a cloud's metadata never."""
    assert made(WebhookOptions(url="http://10.0.0.1/"), is_open=True) is not None
    with pytest.raises(InvalidRequest):
        made(WebhookOptions(url="http://169.254.169.254/"), is_open=True)


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"timeout_s": 0}, "webhook.timeout"),
        ({"timeout_s": -1}, "webhook.timeout"),
        ({"timeout_s": float("nan")}, "webhook.timeout"),
        ({"timeout_s": float("inf")}, "webhook.timeout"),
        ({"secret": "\ud800"}, "webhook.secret"),
        ({"extra_params": {"a": "x" * 6_000_000}}, "webhook.extra_params"),
    ],
)
def test_what_else_cannot_be_is_refused(options: dict[str, object], path: str) -> None:
    """Times that are none, a secret that is no text, parameters that no message has room for."""
    error = refused(url=URL, **options)
    assert [problem.path for problem in error.problems] == [path]


def test_all_that_is_wrong_is_told_at_once() -> None:
    """One refusal has all problems."""
    error = refused(url="ftp://x", timeout_s=0)
    assert [problem.path for problem in error.problems] == ["webhook.url", "webhook.timeout"]


def deep(levels: int) -> JsonValue:
    """Return a number within so many lists."""
    value: JsonValue = 1
    for _ in range(levels):
        value = [value]
    return value


def test_odd_parameters_are_taken() -> None:
    """Deep ones, large integers and halves of characters, too, can be sent back."""
    assert made(WebhookOptions(url=URL, extra_params={"a": deep(250), "b": 2**70, "c": "\ud800"})) is not None


@pytest.mark.parametrize("url", [None, "", " ", "http://10.0.0.1/", "https://user:pass@example.com/hook"])
def test_a_webhook_url_that_can_be_called(url: str | None) -> None:
    """None, a private one, and one with a password."""
    check_settings(WebhookSettings(url=url))


@pytest.mark.parametrize("url", ["example.com/5ecre7", "ftp://example.com/5ecre7", "http://:5ecre7@/"])
def test_a_webhook_url_that_cannot(url: str) -> None:
    """The error names the variable and shows nothing of the URL."""
    with pytest.raises(InvalidSettings) as caught:
        check_settings(WebhookSettings(url=url))
    assert [problem.path for problem in caught.value.problems] == ["WEBHOOK_URL"]
    assert "5ecre7" not in repr(caught.value.to_dict())


def test_a_hook_shows_no_secret() -> None:
    """Its text form has neither URL nor secret nor parameters."""
    hook = made(WebhookOptions(url=URL, secret=SecretStr("5ecre7"), extra_params={"a": "5ecre7"}))
    assert "5ecre7" not in repr(hook)
