"""What GET /docs and GET /openapi.json show: the routes, described by FastAPI. Loads it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

import fastapi
from fastapi import FastAPI

from comfyworker._version import __version__
from comfyworker.hosts.http.modifier_schemas import add_modifiers
from comfyworker.hosts.http.routing import Handler, HttpRoute, Owner, RouteParameter
from comfyworker.workflow.modifiers import Modifiers

_DESCRIPTION = (
    "Runs ComfyUI workflows. The same jobs are reached in three ways: as RunPod's clients ask, as Vast's do, and as "
    "Comfy API v2's do."
)
_NOT_SHOWN = ("request", "owner")
_KEY = "ApiKey"
_SECURITY: Final[dict[str, Any]] = {"security": [{_KEY: []}]}  # Any: OpenAPI
_UNAUTHORIZED = 401
_FOREIGN = "HTTPValidationError"


def describe(routes: Iterable[HttpRoute], modifiers: Modifiers, *, needs_keys: bool) -> FastAPI:
    """Return an app that shows the OpenAPI document of these routes, and answers nothing else.

    Args:
        routes: What the server answers; those without an operation id are left out.
        modifiers: Whose schemas the document has.
        needs_keys: Whether what has an owner is answered to who has an API key only.
    """
    app = FastAPI(title="comfyworker", version=__version__, description=_DESCRIPTION, redoc_url=None)
    for route in routes:
        if route.operation_id is not None:
            told: Mapping[str, Any] = route.operations()[route.operation_id]  # Any: FastAPI's
            app.add_api_route(
                route.path,
                _described(route),
                methods=[*route.methods],
                operation_id=route.operation_id,
                tags=[route.tag],
                response_model=None,
                openapi_extra={
                    **told.get("openapi_extra", {}),
                    **(_SECURITY if needs_keys and _wants_key(route, told) else {}),
                },
                **{key: value for key, value in told.items() if key != "openapi_extra"},
            )
    document = app.openapi()  # FastAPI keeps it and answers with it
    _drop_foreign_refusals(document)
    if needs_keys:
        document["components"]["securitySchemes"] = {_KEY: {"type": "http", "scheme": "bearer"}}
    add_modifiers(document, modifiers)
    return app


def _wants_key(route: HttpRoute, told: Mapping[str, Any]) -> bool:  # Any: FastAPI's
    return _UNAUTHORIZED in told.get("responses", {}) or any(each.annotation == Owner for each in route.parameters)


def _drop_foreign_refusals(document: dict[str, Any]) -> None:  # Any: OpenAPI
    """Take out how FastAPI refuses parameters that do not fit: our routes do it in their APIs' own shapes, with 400."""
    for path in document["paths"].values():
        for operation in path.values():
            if _FOREIGN in str(operation["responses"].get("422", "")):
                del operation["responses"]["422"]
    for name in (_FOREIGN, "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _described(route: HttpRoute) -> Handler:
    """Return a function that says what the handler takes in FastAPI's words; it is never called."""

    async def handler() -> None:
        raise NotImplementedError

    handler.__name__ = getattr(route.handler, "__name__", "handler")
    handler.__doc__ = route.handler.__doc__
    shown = [_parameter(each, route.path) for each in route.parameters if each.name not in _NOT_SHOWN]
    handler.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # what inspect itself looks for
    return handler  # type: ignore[return-value]  # as said


def _parameter(parameter: inspect.Parameter, path: str) -> inspect.Parameter:
    here = RouteParameter(parameter, path)
    make = fastapi.Path if here.is_in_path else fastapi.Query
    field = here.field
    told = (
        make(alias=field.alias, description=field.description, json_schema_extra=field.json_schema_extra)
        if field
        else make()
    )
    return parameter.replace(annotation=Annotated[here.type, told])
