"""Routes: what their handlers are given."""

from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any

import orjson
import pytest
from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from comfyworker.errors import InvalidRequest
from comfyworker.hosts.http.app import APIS, routes_of
from comfyworker.hosts.http.documentation import describe
from comfyworker.hosts.http.metrics import Metrics
from comfyworker.hosts.http.rendering import json_answer
from comfyworker.hosts.http.routing import Router, ServedRoute
from comfyworker.workflow.modifiers import Modifiers

Limit = Annotated[int, Field(ge=1, description="How many.")]


class Colour(StrEnum):
    """What a thing may be."""

    RED = "red"
    BLUE = "blue"


Colours = Annotated[list[Colour] | None, Field(alias="colour", description="Only these.")]
Digest = Annotated[str, Field(pattern="^[0-9]+$")]


async def show(request: Request, digest: Digest, limit: Limit = 5, colours: Colours = None) -> Response:
    """Say what was given."""
    return json_answer({"path": request.url.path, "digest": digest, "limit": limit, "colours": [*(colours or ())]})


async def ask(path: str, query: str = "", *, method: str = "GET") -> tuple[int, Any]:
    """Ask an app that has `show`; return the status and the body, or the error that left it."""
    router = Router()
    router.add("/things/{digest}", show, operation_id="show")
    app = Starlette(routes=[ServedRoute(route) for route in router.routes])
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:  # ASGI's
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(b"host", b"here")],
        "scheme": "http",
        "server": ("here", 80),
    }
    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], orjson.loads(body) if body.startswith(b"{") else body


async def test_a_handler_gets_path_and_query_as_its_types_say() -> None:
    """Numbers are numbers, a list is a list although given once, and what is not given is the default."""
    assert await ask("/things/12") == (200, {"path": "/things/12", "digest": "12", "limit": 5, "colours": []})
    status, answer = await ask("/things/12", "limit=7&colour=red&unknown=1")
    assert status == HTTPStatus.OK
    assert answer == {"path": "/things/12", "digest": "12", "limit": 7, "colours": ["red"]}


async def test_every_parameter_that_does_not_fit_is_named() -> None:
    """All problems of a request are told at once, each with where it stands."""
    with pytest.raises(InvalidRequest) as caught:
        await ask("/things/x", "limit=0&colour=red&colour=green")
    assert [problem.message.partition(": ")[0] for problem in caught.value.problems] == [
        "path.digest",
        "query.limit",
        "query.colour.1",
    ]
    assert {problem.code for problem in caught.value.problems} == {"invalid_parameter"}


async def test_head_is_no_get() -> None:
    """A route answers the methods that it was given, and no other."""
    status, _ = await ask("/things/1", method="HEAD")
    assert status == HTTPStatus.METHOD_NOT_ALLOWED


def test_every_route_that_is_described_is_served_and_the_other_way_round() -> None:
    """The document has an operation for each operation id, under the route's path and method."""
    routes = routes_of(APIS, Metrics())
    paths = describe(routes, Modifiers(), needs_keys=False).openapi()["paths"]
    shown = {
        (operation["operationId"], path, method.upper())
        for path, operations in paths.items()
        for method, operation in operations.items()
    }
    assert shown == {(route.operation_id, route.path, *route.methods) for route in routes if route.operation_id}
    assert [ServedRoute(route).path for route in routes] == [route.path for route in routes]


def test_the_document_has_our_refusals_and_no_others() -> None:
    """Parameters that do not fit are refused with 400 in the API's own shape, and 422 is for workflows."""
    document = describe(routes_of(APIS, Metrics()), Modifiers(), needs_keys=False).openapi()
    assert "HTTPValidationError" not in str(document)
    assert "ValidationError" not in document["components"]["schemas"]
    assert set(document["paths"]["/api/v2/jobs"]["get"]["responses"]) == {"200", "400", "401"}
    assert "422" in document["paths"]["/run"]["post"]["responses"]
    assert "security" not in str(document)


def test_the_document_says_what_wants_a_key() -> None:
    """Where there are keys: not the probes, nor artifacts, whose URLs carry their permission."""
    routes = routes_of(APIS, Metrics())
    document = describe(routes, Modifiers(), needs_keys=True).openapi()
    assert document["components"]["securitySchemes"] == {"ApiKey": {"type": "http", "scheme": "bearer"}}
    secured = {
        operation["operationId"]: operation.get("security")
        for operations in document["paths"].values()
        for operation in operations.values()
    }
    free = {name for name, security in secured.items() if security is None}
    assert {"health", "ready", "read_artifact", "probe_artifact"} <= free
    assert {"runpod_run", "vast_generate", "comfy_v2_create_job", "metrics"}.isdisjoint(free)
    assert secured["runpod_run"] == [{"ApiKey": []}]
