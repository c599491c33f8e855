"""Requests on the disk: whole, but without their secrets."""

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from comfyworker.errors import InternalError, InvalidRequest
from comfyworker.jobs import DeliveryMode, InputFile, JobRequest, Output, StoreOptions, WebhookOptions
from comfyworker.service.stored_request import load_request, store_request, wants_inline

SECRET = "sk-very-secret"


def with_secrets() -> JobRequest:
    """Return a request with every secret that there is."""
    secret = SecretStr(SECRET)
    return JobRequest(
        id="job",
        workflow={"1": {"class_type": "X", "inputs": {"text": "a"}}},
        comfy_org_api_key=secret,
        store=StoreOptions(bucket="b", access_key_id=secret, secret_access_key=secret, session_token=secret),
        webhook=WebhookOptions(url="https://example.org/", secret=secret),
    )


def secret_fields(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """Return the path of every field that is a secret, in a model and those in it."""
    for name, field in model.model_fields.items():
        for part in parts_of(field.annotation):
            if part is SecretStr:
                yield f"{path}{name}"
            elif isinstance(part, type) and issubclass(part, BaseModel):
                yield from secret_fields(part, f"{path}{name}.")


def parts_of(annotation: object) -> Iterator[object]:
    """Return the types in a type."""
    yield annotation
    if get_origin(annotation) in {Union, UnionType, tuple, dict, list, frozenset} or get_args(annotation):
        for part in get_args(annotation):
            yield from parts_of(part)


def test_every_secret_of_a_request_is_known_here() -> None:
    """One that is added to the request must be in this test's request, too."""
    assert set(secret_fields(JobRequest)) == {
        "comfy_org_api_key",
        "store.access_key_id",
        "store.secret_access_key",
        "store.session_token",
        "webhook.secret",
    }


def test_no_secret_is_written_down(tmp_path: Path) -> None:
    """Neither one nor its mask; the rest is, and with what stayed in memory the request is whole again."""
    request = with_secrets()
    stored = store_request(request)
    assert SECRET.encode() not in stored.content
    assert b"***" not in stored.content
    assert load_request(stored.content, tmp_path, stored.secret_parts) == request
    bare = load_request(stored.content, tmp_path)
    assert bare.store == StoreOptions(bucket="b")
    assert bare.webhook == WebhookOptions(url="https://example.org/")


def test_an_empty_secret_is_none() -> None:
    """It says that nothing is to be signed, which is no secret, and is kept."""
    stored = store_request(JobRequest(id="job", webhook=WebhookOptions(secret=SecretStr(""))))
    assert stored.secret_parts == {}
    assert load_request(stored.content, Path()).webhook == WebhookOptions(secret=SecretStr(""))


def test_files_of_our_own_are_told_by_their_place(tmp_path: Path) -> None:
    """The paths that are written down lead into the job's folder, wherever that is."""
    files = (InputFile(name="a", data="YQ=="), InputFile(name="b", path=tmp_path / "assets" / "hash"))
    stored = store_request(JobRequest(id="job", files=files))
    assert stored.pinned == {"inputs/1": tmp_path / "assets" / "hash"}
    assert str(tmp_path).encode() not in stored.content
    loaded = load_request(stored.content, Path("/moved"))
    assert [file.path for file in loaded.files] == [None, Path("/moved/inputs/1")]


def test_a_fingerprint_is_of_what_is_asked_for() -> None:
    """Not of the id, nor of the order of keys; everything else counts."""
    request = JobRequest(id="a", workflow={"1": {"class_type": "X"}, "2": {"class_type": "Y"}})
    same = JobRequest(id="b", workflow={"2": {"class_type": "Y"}, "1": {"class_type": "X"}}, warnings=("odd",))
    other = request.model_copy(update={"timeout_s": 3.0})
    prints = [store_request(given).fingerprint for given in (request, same, other)]
    assert prints[0] == prints[1] != prints[2]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), st.fixed_dictionaries({"inputs": st.dictionaries(st.text(), values)}), max_size=3))
def test_whatever_a_workflow_holds_comes_back(graph: dict[str, dict[str, object]]) -> None:
    """NaN, infinities, huge integers, odd text: the workflow that runs is the one that came."""
    request = JobRequest(id="job", workflow=graph)
    assert repr(load_request(store_request(request).content, Path()).workflow) == repr(request.workflow)


def test_what_is_nested_too_deeply_is_refused() -> None:
    """It is the client's fault, not ours."""
    deep: list[object] = []
    for _ in range(20_000):  # Python 3.13 writes down half of that
        deep = [deep]
    with pytest.raises(InvalidRequest):
        store_request(JobRequest.model_construct(id="job", workflow={"1": {"inputs": {"x": deep}}}))


@pytest.mark.parametrize("content", [b"{}", b"no json", b"[]"])
def test_a_request_of_another_version_is_told(content: bytes) -> None:
    """What cannot be read fails the job, with what to do."""
    with pytest.raises(InternalError, match="another version"):
        load_request(content, Path())


@pytest.mark.parametrize(
    ("output", "inline"),
    [
        (Output(), True),
        (Output(delivery=DeliveryMode.BASE64), True),
        (Output(delivery=DeliveryMode.URL), False),
        (Output(delivery=DeliveryMode.S3), False),
        (Output(without_bucket=DeliveryMode.URL), False),
    ],
)
def test_who_wants_base64_is_known(output: Output, inline: bool) -> None:
    """It is made from kept files when the client asks for its answer."""
    assert wants_inline(JobRequest(id="job", output=output)) is inline
