"""What a message says, and that it can be read again as it was written."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, SecretStr

from comfyworker.jobs import JobRequest, WebhookEvent, WebhookOptions
from comfyworker.settings import WebhookSettings
from comfyworker.webhooks.hook import Hook, make_hook
from comfyworker.webhooks.message import Message, Unreadable, make_message, pack, unpack, unpack_envelope

URL = "https://example.com/hook?token=5ecre7"
BODY: dict[str, JsonValue] = {"id": "job-1", "status": "completed", "message": "", "output": [], "timings": {}}
TEXTS = st.text(st.characters(exclude_categories=()), max_size=20)
IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@=+-]{0,20}", fullmatch=True)  # as the dialects take them
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)


def hook(extra: dict[str, JsonValue] | None = None, *, job_id: str = "job-1", secret: str | None = None) -> Hook:
    """Return who is told."""
    own = None if secret is None else SecretStr(secret)
    options = WebhookOptions(url=URL, extra_params=extra or {}, secret=own)
    request = JobRequest(id=job_id, webhook=options)
    made = make_hook(request, WebhookSettings(), allow_private_urls=False)
    assert made is not None
    return made


def message(
    to: Hook | None = None,
    body: dict[str, JsonValue] | None = None,
    *,
    event: WebhookEvent = WebhookEvent.COMPLETED,
    key: str = "",
    max_bytes: int = 10_000_000,
) -> Message:
    """Return a message."""
    return make_message(to or hook(), event, BODY if body is None else body, key=key, max_bytes=max_bytes, now=1000.5)


def told(*args: object, **kwargs: object) -> dict[str, JsonValue]:
    """Return the body of a message."""
    body = json.loads(message(*args, **kwargs).body)  # type: ignore[arg-type]  # handed on as they are
    assert isinstance(body, dict)
    return body


def test_what_a_message_says() -> None:
    """The caller's words, and what happened."""
    assert told() == {**BODY, "event": "completed"}


def test_extra_parameters_are_told_twice() -> None:
    """Under `extra`, and beside the rest where nothing of ours has the name."""
    extra: dict[str, JsonValue] = {"order": 7, "status": "mine", "event": "mine", "extra": "mine"}
    assert told(hook(extra)) == {**BODY, "event": "completed", "extra": extra, "order": 7}


def test_what_is_told_is_not_changed() -> None:
    """The body that was given stays as it was, also where base64 is left out."""
    body: dict[str, JsonValue] = {"output": [{"data": "x" * 100}]}
    before = copy.deepcopy(body)
    message(hook({"a": 1}), body, max_bytes=50)
    assert body == before


def test_base64_that_does_not_fit_is_left_out() -> None:
    """The longest first, and said to be left out; the rest of an output stays."""
    body: dict[str, JsonValue] = {
        "id": "1",
        "output": [{"filename": "a", "data": "a" * 300}, {"filename": "b", "data": "b" * 500}, {"text": "c" * 10}],
    }
    whole = len(message(body=body).body)
    assert told(body=body, max_bytes=whole)["output"] == body["output"]
    assert told(body=body, max_bytes=whole - 1)["output"] == [
        {"filename": "a", "data": "a" * 300},
        {"filename": "b", "data_omitted": True},
        {"text": "c" * 10},
    ]
    assert told(body=body, max_bytes=10)["output"] == [
        {"filename": "a", "data_omitted": True},
        {"filename": "b", "data_omitted": True},
        {"text": "c" * 10},
    ]


@given(st.lists(st.integers(0, 60), max_size=6), st.integers(1, 500))
def test_a_body_fits_if_it_can(lengths: list[int], limit: int) -> None:
    """It is larger than allowed only where no base64 is left in it; and none is left out of one that fits."""
    body: dict[str, JsonValue] = {"output": [{"data": "x" * length} for length in lengths]}
    made = message(body=body, max_bytes=limit)
    omitted = b"data_omitted" in made.body
    if len(made.body) > limit:
        assert b"x" * 11 not in made.body
    if len(message(body=body).body) <= limit:
        assert not omitted


def test_an_id_stands_for_job_event_and_key() -> None:
    """The same for a repeat, another for anything else."""
    same = {message().envelope.id, message(body={}).envelope.id, message(hook(secret="x")).envelope.id}
    assert len(same) == 1
    others = [
        message(hook(job_id="job-2")),
        message(event=WebhookEvent.FAILED),
        message(key="a.png"),
        message(hook(job_id="job-1\ud800")),
    ]
    assert len({*same, *(other.envelope.id for other in others)}) == 5
    assert same.pop().startswith("msg_")


@given(st.dictionaries(TEXTS, VALUES, max_size=4), IDS, st.none() | st.text(max_size=10), TEXTS)
def test_what_is_written_is_read(extra: dict[str, JsonValue], job_id: str, secret: str | None, text: str) -> None:
    """Any message comes back as it was, secret included."""
    written = message(hook(extra, job_id=job_id, secret=secret), {"message": text})
    assert unpack(pack(written)) == written
    assert unpack_envelope(pack(written).partition(b"\n")[0]) == written.envelope


@given(st.data())
def test_half_a_message_is_none(data: st.DataObject) -> None:
    """Whatever is cut off, it is seen."""
    packed = pack(message())
    with pytest.raises(Unreadable) as caught:
        unpack(packed[: data.draw(st.integers(0, len(packed) - 1))])
    assert "5ecre7" not in repr(caught.value)


def test_an_envelope_shows_no_secret() -> None:
    """Its text form has the host at most."""
    envelope = message(hook(secret="5ecre7")).envelope
    assert "5ecre7" not in repr(envelope)
    assert envelope.host == "https://example.com/…"
