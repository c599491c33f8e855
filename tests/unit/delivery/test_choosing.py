"""Which way a job's artifacts leave."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import SecretStr

from comfyworker.delivery.choosing import Deliveries
from comfyworker.delivery.comfyui_url import ComfyUIUrlDelivery
from comfyworker.delivery.fitting import FittingDelivery, InlineFallback
from comfyworker.delivery.inline import InlineDelivery
from comfyworker.delivery.store import StoreDelivery
from comfyworker.errors import AnswerTooLarge, InvalidRequest, InvalidSettings
from comfyworker.jobs import Artifact, ArtifactKind, DeliveryMode, JobRequest, Output, StoreOptions
from comfyworker.settings import load_settings
from support.artifacts import file_artifact
from support.ports import free_port

BUCKET = {
    "BUCKET_ENDPOINT_URL": "https://s3.example/outputs",
    "BUCKET_ACCESS_KEY_ID": "key",
    "BUCKET_SECRET_ACCESS_KEY": "secret",
}
OWN = StoreOptions(
    endpoint_url="https://other.example",
    bucket="mine",
    access_key_id=SecretStr("k"),
    secret_access_key=SecretStr("s"),
)
URLS = Output(without_bucket=DeliveryMode.URL)
ONLY_INLINE = Output(only_inline=True)


def job(output: Output, store: StoreOptions | None = None) -> JobRequest:
    """Return a job that wants its artifacts so."""
    return JobRequest(id="job", output=output, store=store)


@pytest.mark.parametrize(
    ("output", "without_bucket", "with_bucket"),
    [
        (Output(), InlineDelivery, StoreDelivery),
        (URLS, ComfyUIUrlDelivery, StoreDelivery),
        (ONLY_INLINE, InlineDelivery, InlineDelivery),
        (Output(delivery=DeliveryMode.BASE64), InlineDelivery, InlineDelivery),
        (Output(delivery=DeliveryMode.URL), ComfyUIUrlDelivery, ComfyUIUrlDelivery),
    ],
)
def test_the_request_and_the_bucket_decide(output: Output, without_bucket: type, with_bucket: type) -> None:
    """`auto` is the bucket where there is one; what is asked for is done."""
    assert isinstance(Deliveries(load_settings({})).choose(job(output)), without_bucket)
    assert isinstance(Deliveries(load_settings(BUCKET)).choose(job(output)), with_bucket)


@pytest.mark.parametrize("output", [Output(), URLS, ONLY_INLINE, Output(delivery=DeliveryMode.S3)])
def test_a_store_of_the_requests_own_is_wanted(output: Output) -> None:
    """Also by a client that usually reads base64, and where the worker has none."""
    assert isinstance(Deliveries(load_settings({})).choose(job(output, OWN)), StoreDelivery)


def test_object_storage_that_is_not_there_is_refused() -> None:
    """Before the job runs."""
    with pytest.raises(InvalidRequest) as caught:
        Deliveries(load_settings({})).choose(job(Output(delivery=DeliveryMode.S3)))
    assert [(problem.path, problem.message) for problem in caught.value.problems] == [
        ("output.delivery", "output.delivery is 's3', but no object storage is configured")
    ]


def test_a_bucket_without_keys_is_told_before_the_job_runs() -> None:
    """Nobody has to pay a GPU to hear of it."""
    with pytest.raises((InvalidSettings, InvalidRequest), match="BUCKET_ACCESS_KEY_ID"):
        Deliveries(load_settings({"BUCKET_ENDPOINT_URL": "https://s3.example/b"})).choose(job(Output()))


@pytest.mark.parametrize(
    "output", [ONLY_INLINE, Output(delivery=DeliveryMode.BASE64), Output(delivery=DeliveryMode.URL)]
)
def test_a_bucket_without_keys_is_no_matter_to_who_does_not_want_it(output: Output) -> None:
    """Its keys are for requests to bring; the others are served as if there was no bucket."""
    deliveries = Deliveries(load_settings({"BUCKET_ENDPOINT_URL": "https://s3.example/b", "ANSWER_MAX_BYTES": "9000"}))
    deliveries.choose(job(output))
    with pytest.raises(InvalidRequest):
        deliveries.choose(job(output, StoreOptions(access_key_id=SecretStr("half of the keys"))))


def test_an_answer_is_limited_where_the_host_or_the_worker_says_so() -> None:
    """The worker's own figure goes before the host's."""
    base64 = job(Output(delivery=DeliveryMode.BASE64))
    assert isinstance(Deliveries(load_settings({}), answer_limit_bytes=10).choose(base64), FittingDelivery)
    assert isinstance(Deliveries(load_settings({"ANSWER_MAX_BYTES": "10"})).choose(base64), FittingDelivery)


async def test_a_client_that_reads_only_base64_is_not_sent_to_a_bucket(tmp_path: Path) -> None:
    """It hears that the answer is too large; others get a URL."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"x" * 100)
    artifact = file_artifact(path, kind=ArtifactKind.FILE)
    deliveries = Deliveries(load_settings({**BUCKET, "ANSWER_MAX_BYTES": "10"}))
    with pytest.raises(AnswerTooLarge):
        await deliveries.choose(job(ONLY_INLINE)).deliver([artifact])


class Kept:
    """A host's own keeping of files."""

    keeps_outputs = False

    async def deliver(self, artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
        """Return them as they are."""
        return tuple(artifacts)


@pytest.mark.parametrize("mode", [DeliveryMode.BASE64, DeliveryMode.URL])
def test_a_host_that_keeps_files_does_so_for_base64_and_urls(mode: DeliveryMode) -> None:
    """It puts them into its answers itself."""
    deliveries = Deliveries(load_settings({}), serve=lambda _: Kept())
    assert isinstance(deliveries.choose(job(Output(delivery=mode))), Kept)


async def test_a_host_that_keeps_files_hands_on_what_no_answer_takes(tmp_path: Path) -> None:
    """To the bucket, where there is one; here it cannot be reached, and says so of the file."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"x" * 9000)
    file = file_artifact(path, kind=ArtifactKind.FILE)
    down = {**BUCKET, "BUCKET_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}/b", "BUCKET_ATTEMPTS": "1"}
    limited = load_settings({**down, "ANSWER_MAX_BYTES": "10000"})
    async with Deliveries(limited, serve=lambda _: Kept()) as deliveries:
        delivery = deliveries.choose(job(Output(delivery=DeliveryMode.BASE64)))
        small = file.model_copy(update={"size_bytes": 10})
        assert await delivery.deliver([small]) == (small,)
        [large] = await delivery.deliver([file])
    assert large.failure is not None


def test_a_failed_upload_may_fall_back() -> None:
    """Only where the worker says so."""
    deliveries = Deliveries(load_settings({**BUCKET, "FALLBACK_INLINE": "true"}))
    assert isinstance(deliveries.choose(job(Output())), InlineFallback)


async def test_files_are_told_of_however_they_go(tmp_path: Path) -> None:
    """One by one; texts are in the answer."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc")
    file = file_artifact(path, kind=ArtifactKind.TEXT)
    text = file.model_copy(update={"path": None, "text": "abc"})
    told: list[Artifact] = []
    delivery = Deliveries(load_settings({})).choose(job(Output()), told.append)
    delivered = await delivery.deliver([file, text])
    assert told == [delivered[0]]
