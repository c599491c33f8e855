"""Routes: what is served where, what its handler is given, and under which name it is described."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from comfyworker.errors import InvalidRequest, Problem
from comfyworker.hosts.http.context import owner_of

Handler = Callable[..., Awaitable[Response]]
"""Takes a Request, an Owner, what stands in its path under the same name, and what else it has from the query."""
Operations = Callable[[], Mapping[str, Mapping[str, Any]]]  # Any: what FastAPI takes for a route
"""Tells what the OpenAPI document has of routes, by operation id; called when somebody asks for the document."""


class _Asker:
    """Marks whom a handler wants to know: the owner of what the request asks for."""


Owner = Annotated[str, _Asker()]
"""Whose request it is (`owner_of`); a handler that takes one refuses who has no key before all else."""


@dataclass(frozen=True)
class HttpRoute:
    """One handler and where it is served."""

    path: str
    handler: Handler
    methods: tuple[str, ...]
    operation_id: str | None
    """Its name in the OpenAPI document; None: it is not in there."""
    tag: str
    operations: Operations

    @property
    def parameters(self) -> tuple[inspect.Parameter, ...]:
        """What the handler takes, with the types that its annotations name."""
        return tuple(inspect.signature(self.handler, eval_str=True).parameters.values())


class Router:
    """Routes that belong together."""

    def __init__(self, *, tag: str = "", prefix: str = "", operations: Operations = dict) -> None:
        """Have none yet.

        Args:
            tag: Under which the document has them.
            prefix: Stands before each path.
            operations: What the document has of them.
        """
        self.routes: list[HttpRoute] = []
        self._tag = tag
        self._prefix = prefix
        self._operations = operations

    def add(
        self, path: str, handler: Handler, *, methods: tuple[str, ...] = ("GET",), operation_id: str | None = None
    ) -> None:
        """Serve `path` by `handler`; the first route that has a path and a method is asked."""
        self.routes.append(HttpRoute(self._prefix + path, handler, methods, operation_id, self._tag, self._operations))


class ServedRoute(Route):
    """A route as Starlette serves it."""

    def __init__(self, route: HttpRoute) -> None:
        """Give the handler of `route` what it takes."""
        arguments = functools.cache(lambda: _Arguments(route))  # most routes of a server are never asked

        async def answer(request: Request) -> Response:
            return await route.handler(**await arguments().read(request))

        super().__init__(route.path, answer, name=route.operation_id or route.path)
        self.methods = set(route.methods)  # Starlette's own would answer HEAD wherever GET is answered

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Tell whether it is the one, and note that for the log."""
        match, found = super().matches(scope)
        return match, {**found, "route": self}


class _Arguments:
    """Gets what a handler takes out of a request."""

    def __init__(self, route: HttpRoute) -> None:
        self._takes_request: str | None = None
        self._takes_owner: str | None = None
        self._parameters: list[RouteParameter] = []
        for parameter in route.parameters:
            if parameter.annotation is Request:
                self._takes_request = parameter.name
            elif parameter.annotation == Owner:
                self._takes_owner = parameter.name
            else:
                self._parameters.append(RouteParameter(parameter, route.path))

    async def read(self, request: Request) -> dict[str, Any]:  # Any: handlers differ
        """Return the arguments by name.

        Raises:
            Unauthorized: the handler takes an owner, and there is no key of ours.
            InvalidRequest: with every parameter that does not fit.
        """
        arguments: dict[str, Any] = {}  # Any: as above
        if self._takes_request is not None:
            arguments[self._takes_request] = request
        if self._takes_owner is not None:
            arguments[self._takes_owner] = await owner_of(request)
        problems: list[Problem] = []
        for parameter in self._parameters:
            try:
                arguments[parameter.name] = parameter.read(request)
            except ValidationError as error:
                problems.extend(parameter.problems(error))
        if problems:
            raise InvalidRequest("; ".join(problem.message for problem in problems), problems=problems)
        return arguments


class RouteParameter:
    """A part of the path, or of the query, checked as its annotation says."""

    def __init__(self, parameter: inspect.Parameter, path: str) -> None:
        """Know where a handler's parameter comes from: from `path` if that names it."""
        self.name: Final = parameter.name
        self.default: Final = parameter.default
        self.is_in_path: Final = f"{{{parameter.name}}}" in path
        self.field: Final = _field_of(parameter.annotation)
        self.type: Final = _type_of(parameter.annotation, self.field)
        """What it must be, without what `field` says beside."""
        self.alias: Final = (self.field.alias if self.field else None) or parameter.name
        self._is_plain = self.type is str
        self._is_list = any(get_origin(part) is list for part in _types_of(self.type))

    def read(self, request: Request) -> object:
        """Return its value.

        Raises:
            ValidationError: it does not fit.
        """
        if self.is_in_path:
            given: object = request.path_params[self.name]
        elif self._is_list:
            given = request.query_params.getlist(self.alias) or None
        else:
            given = request.query_params.get(self.alias)
        if given is None:
            return self.default
        return given if self._is_plain else self._adapter.validate_python(given)

    def problems(self, error: ValidationError) -> Iterator[Problem]:
        """Yield what is wrong with it, in words that name it."""
        place = "path" if self.is_in_path else "query"
        for item in error.errors(include_url=False, include_context=False):
            name = ".".join(str(part) for part in (place, self.alias, *item["loc"]))
            yield Problem(message=f"{name}: {item['msg']}", code="invalid_parameter")

    @functools.cached_property
    def _adapter(self) -> TypeAdapter[object]:
        return TypeAdapter(self.type)


def _field_of(annotation: object) -> FieldInfo | None:
    return next((part for part in getattr(annotation, "__metadata__", ()) if isinstance(part, FieldInfo)), None)


def _type_of(annotation: Any, field: FieldInfo | None) -> Any:  # noqa: ANN401  # types are of no one type
    if field is None:
        return annotation
    bare = annotation.__origin__
    return Annotated[bare, *field.metadata] if field.metadata else bare


def _types_of(annotation: object) -> Iterator[object]:
    """Yield the types that an annotation is made of, `X | None` taken apart."""
    bare = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    yield bare
    yield from get_args(bare)
