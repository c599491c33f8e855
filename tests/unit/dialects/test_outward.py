"""How a request wants its artifacts, and who is to hear of the job."""

import json
from typing import Any

import pytest

from comfyworker.dialects import dialect_named
from comfyworker.errors import InvalidRequest
from comfyworker.jobs import FINAL_EVENTS, DeliveryMode, JobRequest, Output, PictureFormat, StoreOptions, WebhookEvent

WORKFLOW = {"9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}}}


def parse(given: dict[str, Any], *, dialect: str = "worker-comfyui", **beside: Any) -> JobRequest:
    """Return the job of a request with these keys in its input, and those beside it."""
    return dialect_named(dialect).parse({"input": {"workflow": WORKFLOW, **given}, **beside}, new_id=lambda: "new")


def refused(given: dict[str, Any], **beside: Any) -> list[tuple[str | None, str]]:
    """Return path and message of each problem of a refused request."""
    with pytest.raises(InvalidRequest) as caught:
        parse(given, **beside)
    return [(problem.path, problem.message) for problem in caught.value.problems]


def shown(store: StoreOptions | None) -> dict[str, Any]:
    """Return what a store's options hold, secrets opened, without what is not given."""
    assert store is not None
    opened = {key: getattr(store, key) for key in StoreOptions.model_fields}
    return {
        key: value.get_secret_value() if hasattr(value, "get_secret_value") else value
        for key, value in opened.items()
        if value is not None
    }


@pytest.mark.parametrize(
    ("dialect", "usual"),
    [
        ("worker-comfyui", Output()),
        ("pyworker", Output()),
        ("urls", Output(without_bucket=DeliveryMode.URL)),
        ("flux", Output(only_inline=True)),
    ],
)
def test_each_dialect_has_its_usual_way(dialect: str, usual: Output) -> None:
    """`urls` wants URLs also without a bucket, `flux` base64 also beside one."""
    assert parse({}, dialect=dialect).output == usual


def test_all_of_output_is_read() -> None:
    """Over what the dialect's clients usually want."""
    given = {"delivery": "s3", "format": "webp", "quality": 80, "strip_metadata": True, "prefix": "a/b/"}
    assert parse({"output": given}, dialect="flux").output == Output(
        delivery=DeliveryMode.S3,
        only_inline=True,
        format=PictureFormat.WEBP,
        quality=80,
        strip_metadata=True,
        prefix="a/b/",
    )


@pytest.mark.parametrize("spelling", ["jpg", "JPEG", ".jpg", " jpeg "])
def test_jpeg_has_many_names(spelling: str) -> None:
    """All of them are seen in the field."""
    assert parse({"output": {"format": spelling}}).output.format is PictureFormat.JPEG


def test_base64_may_be_asked_for_in_vasts_words() -> None:
    """`output.delivery` says it more exactly, and wins; false asks for nothing."""
    assert parse({"return_outputs_as_base64": True}).output.delivery is DeliveryMode.BASE64
    assert parse({"return_outputs_as_base64": False}).output.delivery is DeliveryMode.AUTO
    both = {"return_outputs_as_base64": True, "output": {"delivery": "s3"}}
    assert parse(both).output.delivery is DeliveryMode.S3


def test_a_store_is_read_from_s3_and_from_s3config() -> None:
    """Field by field, `s3` first; blank fields are not given."""
    s3 = {"access_key_id": "key", "secret_access_key": "", "bucket_name": " b ", "region": "eu", "connect_attempts": 3}
    config = {"accessId": "other", "accessSecret": "secret", "bucketName": "c", "endpointUrl": "https://s3.example"}
    job = parse({"s3": s3}, s3Config=config)
    assert shown(job.store) == {
        "endpoint_url": "https://s3.example",
        "bucket": "b",
        "access_key_id": "key",
        "secret_access_key": "secret",
        "region": "eu",
        "attempts": 3,
    }
    assert job.warnings == ()


@pytest.mark.parametrize(
    "s3", [None, {}, {"access_key_id": "", "bucket_name": " ", "connect_timeout": 60, "connect_attempts": 3}]
)
def test_a_blank_store_is_none(s3: object) -> None:
    """As upstream's clients send it, whose defaults are all blank."""
    assert parse({"s3": s3}).store is None


def test_a_webhook_is_read() -> None:
    """With what it wants to hear of."""
    given = {"url": " https://hook.example ", "extra_params": {"a": [1]}, "secret": "s", "events": ["started"]}
    webhook = parse({"webhook": {**given, "timeout": 5}}).webhook
    assert webhook is not None
    assert webhook.secret is not None
    assert (webhook.url, webhook.extra_params) == ("https://hook.example", {"a": [1]})
    assert (webhook.events, webhook.timeout_s) == (frozenset({WebhookEvent.STARTED}), 5.0)
    assert webhook.secret.get_secret_value() == "s"


def test_a_webhook_hears_of_the_end() -> None:
    """If it does not say; an empty secret asks not to be signed, none leaves it to the worker."""
    plain, unsigned = (parse({"webhook": {"url": "https://h", **more}}).webhook for more in ({}, {"secret": ""}))
    assert plain is not None
    assert unsigned is not None
    assert plain.events == unsigned.events == FINAL_EVENTS
    assert plain.secret is None
    assert unsigned.secret is not None


@pytest.mark.parametrize("given", [None, {}, {"url": "", "extra_params": {}}, {"url": None, "secret": ""}])
def test_a_blank_webhook_is_none(given: object) -> None:
    """As clients send it that fill in every field."""
    assert parse({"webhook": given}).webhook is None


@pytest.mark.parametrize(
    ("given", "path", "message"),
    [
        ({"output": 3}, "output", "output must be an object, it is a number"),
        (
            {"output": {"format": "wepb"}},
            "output.format",
            "output.format must be one of png, jpeg, webp, avif, it is 'wepb'; did you mean 'webp'?",
        ),
        ({"output": {"format": 3}}, "output.format", "output.format must be text, it is a number"),
        ({"output": {"quality": 0}}, "output.quality", "output.quality must be from 1 to 100, it is 0"),
        ({"output": {"quality": "80"}}, "output.quality", "output.quality must be a whole number, it is text"),
        (
            {"output": {"delivery": "gcs"}},
            "output.delivery",
            "output.delivery must be one of auto, base64, s3, url, it is 'gcs'",
        ),
        (
            {"output": {"prefix": "a" * 513}},
            "output.prefix",
            "output.prefix must have at most 512 characters, it has 513",
        ),
        ({"s3": {"region": 3}}, "s3.region", "s3.region must be text, it is a number"),
        ({"s3": {"connect_attempts": 0}}, "s3.connect_attempts", "s3.connect_attempts must be from 1 to 20, it is 0"),
        (
            {"webhook": {"url": "https://h", "events": "all"}},
            "webhook.events",
            "webhook.events must be a list of started, progress, artifact, completed, failed, cancelled",
        ),
        (
            {"webhook": {"url": "https://h", "events": ["start"]}},
            "webhook.events[0]",
            (
                "webhook.events[0] must be one of started, progress, artifact, completed, failed, cancelled; "
                "did you mean 'started'?"
            ),
        ),
        (
            {"webhook": {"url": "https://h", "extra_params": "x"}},
            "webhook.extra_params",
            "webhook.extra_params must be an object, it is text",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_its_path(given: dict[str, Any], path: str, message: str) -> None:
    """The message says what must be there and what is."""
    assert refused(given) == [(path, message)]


def test_runpods_store_is_refused_by_its_path() -> None:
    """It stands beside the input."""
    assert refused({}, s3Config={"bucketName": 3}) == [
        ("s3Config.bucketName", "s3Config.bucketName must be text, it is a number")
    ]


def test_unknown_keys_are_named() -> None:
    """In each of the objects, with what was probably meant."""
    job = parse(
        {"output": {"formt": "webp"}, "s3": {"bucket": "b"}, "webhook": {"url": "https://h", "x": 1}}, s3Config={"y": 1}
    )
    assert job.warnings == (
        "the key 'formt' in output is unknown and was ignored; did you mean 'format'?",
        "the key 'bucket' in s3 is unknown and was ignored; did you mean 'bucket_name'?",
        "the key 'y' in s3Config is unknown and was ignored",
        "the key 'x' in webhook is unknown and was ignored",
    )


def test_no_secret_is_ever_shown() -> None:
    """Neither by a job's repr, nor where it stands in the wrong place."""
    s3 = {"access_key_id": "SECRET1", "secret_access_key": "SECRET2", "endpoint_url": "https://u:SECRET3@h"}
    job = parse({"s3": s3, "webhook": {"url": "https://h?token=SECRET4", "secret": "SECRET5"}})
    assert "SECRET" not in repr(job)
    with pytest.raises(InvalidRequest) as caught:
        parse({"s3": {"access_key_id": ["SECRET6"]}, "webhook": {"url": "https://h", "secret": {"a": "SECRET7"}}})
    assert "SECRET" not in json.dumps(caught.value.to_dict())
