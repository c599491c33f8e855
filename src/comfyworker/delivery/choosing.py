"""Which way a job's artifacts leave: chosen before it runs, so that what could not be delivered is never begun."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from comfyworker.delivery.comfyui_url import ComfyUIUrlDelivery
from comfyworker.delivery.fitting import FittingDelivery, InlineFallback, WithinLimit
from comfyworker.delivery.inline import InlineDelivery
from comfyworker.delivery.protocol import Delivery
from comfyworker.delivery.store import StoreDelivery, StoreLocation, Stores, check_store_settings, find_location
from comfyworker.delivery.telling import TellingDelivery
from comfyworker.errors import InvalidRequest, InvalidSettings, Problem
from comfyworker.jobs import Artifact, DeliveryMode, JobRequest
from comfyworker.outbound.addresses import host_refusal
from comfyworker.settings import Settings

ArtifactSink = Callable[[Artifact], None]


class Deliveries:
    """The ways in which artifacts leave a host; one for all jobs of a worker.

    An async context manager, which keeps the connections to object storage; choosing works outside of it too.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        answer_limit_bytes: int | Callable[[JobRequest], int] | None = None,
        serve: Callable[[JobRequest], Delivery] | None = None,
    ) -> None:
        """Know the ways.

        Args:
            settings: The worker's settings.
            answer_limit_bytes: The largest answer that the host's platform takes, of any job or of the one given, where
                ANSWER_MAX_BYTES says nothing.
            serve: Keeps a job's files with the host, which makes URLs of its own for them and puts them into answers
                itself; None leaves files with ComfyUI, and puts them into the answer as base64.

        Raises:
            InvalidSettings: the worker's object storage cannot be what the settings say.
        """
        check_store_settings(settings.store)
        self._settings = settings
        self._allow_private = settings.inputs.allow_private_urls
        self._stores = Stores(settings.store, allow_private_urls=self._allow_private)
        self._answer_limit_bytes = settings.delivery.answer_max_bytes or answer_limit_bytes
        self._serve = serve

    async def __aenter__(self) -> Self:
        """Be ready to deliver."""
        await self._stores.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the connections."""
        await self._stores.__aexit__(kind, error, trace)

    def choose(self, request: JobRequest, on_artifact: ArtifactSink | None = None) -> Delivery:
        """Return the way for one job.

        Args:
            request: The job.
            on_artifact: Called for every file that has been delivered.

        Raises:
            InvalidRequest: it asks for object storage, and there is none, or it names one that cannot be.
            InvalidSettings: the worker's object storage is configured wrongly.
        """
        location, limit_bytes = self._location(request), self._limit_bytes(request)
        mode = _mode(request, location)
        if mode is DeliveryMode.S3:
            if location is None:
                raise _no_store()
            return _within(limit_bytes, self._store_delivery(request, location, on_artifact))
        delivery: Delivery
        if mode is DeliveryMode.URL:
            delivery = _within(limit_bytes, ComfyUIUrlDelivery() if self._serve is None else self._serve(request))
        elif limit_bytes is None:
            delivery = self._inline(request)
        else:
            is_open = location is not None and not request.output.only_inline
            otherwise = self._store_delivery(request, location, None) if location is not None and is_open else None
            delivery = FittingDelivery(limit_bytes, inline=self._inline(request), otherwise=otherwise)
        return _told(delivery, on_artifact)

    def _inline(self, request: JobRequest) -> Delivery:
        return InlineDelivery() if self._serve is None else self._serve(request)

    def _location(self, request: JobRequest) -> StoreLocation | None:
        try:
            location = find_location(self._settings.store, request.store)
        except InvalidSettings:
            # The worker's bucket may lack the keys that requests bring. Who does not want it need not know.
            if _wants_store(request):
                raise
            return None
        if location is not None and location.is_foreign:
            reason = host_refusal(urlsplit(location.base_url).hostname or "", allow_private=self._allow_private)
            if reason is not None:
                raise _refused_endpoint(reason)
        return location

    def _limit_bytes(self, request: JobRequest) -> int | None:
        limit = self._answer_limit_bytes
        return limit(request) if callable(limit) else limit

    def _store_delivery(
        self, request: JobRequest, location: StoreLocation, on_artifact: ArtifactSink | None
    ) -> Delivery:
        delivery = StoreDelivery(
            self._stores, location, request_id=request.id, prefix=request.output.prefix, on_artifact=on_artifact
        )
        if self._settings.delivery.fallback_inline:
            inline = _told(self._inline(request), on_artifact)
            return InlineFallback(delivery, self._limit_bytes(request), inline=inline)
        return delivery


def _within(limit_bytes: int | None, delivery: Delivery) -> Delivery:
    return delivery if limit_bytes is None else WithinLimit(delivery, limit_bytes)


def _told(delivery: Delivery, on_artifact: ArtifactSink | None) -> Delivery:
    return delivery if on_artifact is None else TellingDelivery(delivery, on_artifact)


def _mode(request: JobRequest, location: StoreLocation | None) -> DeliveryMode:
    output = request.output
    if output.delivery is not DeliveryMode.AUTO:
        return output.delivery
    return DeliveryMode.S3 if location is not None and _wants_store(request) else output.without_bucket


def _wants_store(request: JobRequest) -> bool:
    """Tell whether a job's artifacts go to object storage where there is one."""
    output = request.output
    if output.delivery is not DeliveryMode.AUTO:
        return output.delivery is DeliveryMode.S3
    return request.store is not None or not output.only_inline


def _refused_endpoint(reason: str) -> InvalidRequest:
    message = f"s3.endpoint_url leads to {reason}, which a request may not have us speak to"
    return InvalidRequest(
        message,
        hint="Give an endpoint that anybody can reach. ALLOW_PRIVATE_URLS of the worker opens private networks.",
        problems=[Problem(message=message, code="url_refused", path="s3.endpoint_url")],
    )


def _no_store() -> InvalidRequest:
    message = "output.delivery is 's3', but no object storage is configured"
    return InvalidRequest(
        message,
        hint="Send `s3` with the request, or set BUCKET_ENDPOINT_URL for the worker.",
        problems=[Problem(message=message, code="no_object_storage", path="output.delivery")],
    )
