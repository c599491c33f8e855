"""docs/reference/http.md: the server's routes, as its OpenAPI document has them."""

from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from comfyworker.hosts.http.app import APIS, routes_of
from comfyworker.hosts.http.documentation import describe
from comfyworker.hosts.http.documents import JobInput
from comfyworker.hosts.http.metrics import Metrics
from comfyworker.modifiers import load_modifiers
from comfyworker.settings import load_settings

Schema = Mapping[str, Any]  # Any: JSON Schema

_WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true, false", "null": "null"}
_ANCHOR_LESS = str.maketrans("", "", "/{}`")
_METHODS = ("GET", "HEAD", "POST", "DELETE")
_TOLD_ELSEWHERE = {"JobInput": "[a job's input](request.md)"}
_JSON = "application/json"
_NO_WORDS = {"", "Successful Response", "Additional Response"}
_YES = ("", "yes")
_NOTHING: tuple[str, Schema] = ("", {})
_PHRASES = {499: "Canceled"}
_INTROS = {
    "RunPod": """
Each route is below `/v2/{endpoint}`, too, where any name does for the endpoint.
`GET /v2/{endpoint}/health` is RunPod's own: the jobs and workers that `GET /health` has, and it wants a key.
A job is `IN_QUEUE`, `IN_PROGRESS`, and at last `COMPLETED`, `FAILED`, `CANCELLED` or `TIMED_OUT`.
`output` is what came of it in its [dialect](request.md#dialects).
A job whose `input` is wrong is taken and has failed at once, as on RunPod.
What stands beside `input` is looked at first, and refused with 400.
A full queue is 429 with `Retry-After`.
""",
    "Vast": """
Answers are those of the [dialect pyworker](dialects/pyworker.md).
The HTTP status tells the same, and whether to try again: [the table](../howto/serve-vast-clients.md#the-http-status).
A job is cancelled by `POST /cancel/{job_id}`, which is listed under RunPod, and answered in Vast's words.
""",
    "Comfy API v2": """
A refusal is `{"error": {"code", "message", "details"}}`.
Times are in ISO 8601, in UTC.
A full queue is 429 with `Retry-After`.
""",
    "Artifacts": """
Answers have such URLs where the files are not in the answer itself.
""",
    "Operation": """
[Operate the server](../howto/operate-the-server.md) tells what to make of them.
""",
}


_HEAD = """
What `comfyworker serve` answers: three APIs, one queue.
A job that came by one of them can be asked for by the others.
The server has the same at `/openapi.json`, for programs, and at `/docs`, to try it, with the parameters of each modifier.
Where there are `API_KEYS`, every route wants the header `Authorization: Bearer KEY`, but for `/health`, `/ready`, `/api/v2/health`, the documents, and artifacts under their signed URLs.
A path that nobody knows, and a parameter that does not fit, are refused in the shape of the path's API.
Error codes are [those of all hosts](errors.md).
"""  # noqa: E501  # one sentence for each line of the page


class Route(NamedTuple):
    """One method of one path."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def server_document() -> tuple[dict[str, Any], set[Route]]:  # Any: an OpenAPI document
    """Return the OpenAPI document of a server with no settings of its own, and every route that it has."""
    routes = routes_of(APIS, Metrics())
    modifiers = load_modifiers(load_settings({}).modifiers)
    return describe(routes, modifiers, needs_keys=False).openapi(), {
        Route(way, route.path) for route in routes for way in route.methods
    }


class HttpPage:
    """Writes the page; notes which shapes it has named, for they are told of at its end."""

    def __init__(self, document: Schema) -> None:
        """Write of what an OpenAPI document has."""
        self._document = document
        self._shared: Schema = document["components"]["schemas"]
        self._shapes: dict[str, Schema] = {}

    def lines(self) -> Iterator[str]:
        """Yield what stands below the page's head."""
        by_api: dict[str, list[tuple[Route, Schema]]] = {tag: [] for tag in _INTROS}
        for path, methods in self._document["paths"].items():
            for method, operation in methods.items():
                by_api[operation["tags"][0]].append((Route(method.upper(), path), operation))
        for tag, operations in by_api.items():
            yield from ("", f"## {tag}", "", _INTROS[tag].strip(), "")
            yield from _table(("route", "what it does"), (_overview(*item) for item in operations))
            for route, operation in operations:
                yield from self._operation(route, operation)
        yield from self._shape_lines()

    def _operation(self, route: Route, operation: Schema) -> Iterator[str]:
        text = " ".join(operation.get("description", "").split())
        summary = () if text.startswith(operation["summary"]) else (f"{operation['summary']}.",)
        yield from ("", f"### {route}", "", *summary)
        yield from (part if part.endswith(".") else f"{part}." for part in _sentences(text))
        parameters = [item for item in operation.get("parameters", ()) if item["in"] != "path"]
        if parameters:
            yield ""
            yield from _table(("parameter", "where", "type", "what it is"), map(self._parameter, parameters))
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            kind = "JSON" if media_type == _JSON else f"`{media_type}`"
            yield from ("", f"Body: {kind}, {self._type(content['schema'])}.")
        yield ""
        yield from _table(("status", "what it says", "body"), self._answers(operation["responses"]))

    def _parameter(self, parameter: Schema) -> tuple[str, ...]:
        text = parameter.get("description") or parameter["schema"].get("description", "")
        return f"`{parameter['name']}`", parameter["in"], self._type(parameter["schema"], null=False), text

    def _answers(self, responses: Schema) -> Iterator[tuple[str, ...]]:
        for code, answer in sorted(responses.items()):
            content = {
                kind: told for kind, told in answer.get("content", {}).items() if kind != _JSON or told["schema"]
            }
            media_type, told = next(iter(content.items()), _NOTHING)
            schema = told.get("schema", {})
            if schema.get("$ref", "").endswith("/HTTPValidationError"):
                continue  # FastAPI's own, which we do not answer
            shape = self._type(schema) if media_type == _JSON else f"`{media_type}`" if media_type else ""
            phrase = _phrase(int(code))
            text = answer.get("description", "")
            yield f"`{code}`", phrase if text in _NO_WORDS else text, shape

    def _shape_lines(self) -> Iterator[str]:
        yield from ("", "## Shapes", "", "Keys that are not listed are ignored in requests, and told of in `warnings`.")
        told: set[str] = set()
        while names := sorted(self._shapes.keys() - told):
            for name in names:
                told.add(name)
                yield from self._shape(name, self._shapes[name])

    def _shape(self, name: str, schema: Schema) -> Iterator[str]:
        yield from ("", f"### {name}", "")
        if text := schema.get("description"):
            yield from (" ".join(text.split()), "")
        required, inherited = schema.get("required", ()), set[str]()
        if {"modifier", "modifications"} <= schema["properties"].keys():
            inherited = set(JobInput.model_fields)
            yield from ("It has every key of [a job's input](request.md), and:", "")
        rows = (
            (f"`{key}`", self._type(part, null=key in required), _YES[key in required], part.get("description", ""))
            for key, part in schema["properties"].items()
            if key not in inherited
        )
        yield from _table(("key", "type", "always", "what it is"), rows)

    def _type(self, schema: Schema, *, null: bool = True) -> str:  # noqa: PLR0911  # one for each way to write a type
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return self._type({"title": name, **self._shared[name]}, null=null)
        if "const" in schema:
            return f"`{schema['const']}`"
        if "enum" in schema:
            return ", ".join(f"`{value}`" for value in schema["enum"] if value)
        if "properties" in schema:
            return self._named(schema)
        if choices := schema.get("anyOf"):
            parts = dict.fromkeys(self._type(choice) for choice in choices if null or choice.get("type") != "null")
            return " or ".join(parts)
        if schema.get("type") == "array":
            return f"list of {self._type(schema['items'])}"
        if schema.get("type") == "object":
            values = schema.get("additionalProperties")
            return f"object of {self._type(values)}" if isinstance(values, Mapping) and values else "object"
        if schema.get("format") == "binary":
            return "bytes"
        return "time" if schema.get("format") == "date-time" else _WORDS.get(schema.get("type", ""), "any")

    def _named(self, schema: Schema) -> str:
        name = str(schema["title"])
        if name in _TOLD_ELSEWHERE:
            return _TOLD_ELSEWHERE[name]
        self._shapes[name] = schema
        return f"[{name}](#{name.lower()})"


def http_page(note: str) -> str:
    """Return docs/reference/http.md; `note` says where it comes from."""
    document, routes = server_document()
    lines = ["# HTTP", "", note, _HEAD.strip()]
    shown = {Route(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    hidden = [f"`{route}`" for route in sorted(routes - shown - {Route("GET", "/")})]
    lines += ["", "`GET /` leads to `/docs`.", f"The same under another name: {', '.join(hidden)}."]
    return "\n".join([*lines, *HttpPage(document).lines()]) + "\n"


def _overview(route: Route, operation: Schema) -> tuple[str, ...]:
    anchor = str(route).lower().translate(_ANCHOR_LESS).replace(" ", "-")
    return f"[`{route}`](#{anchor})", operation["summary"]


def _phrase(code: int) -> str:
    return _PHRASES.get(code) or HTTPStatus(code).phrase


def _sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a docstring, one for each line of the page."""
    begun = ""
    for part in text.split(". "):
        begun = f"{begun}. {part}" if begun else part
        if begun.count("`") % 2 == 0:
            yield begun
            begun = ""
    if begun:
        yield begun


def _table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    heading = tuple(heading)
    yield f"| {' | '.join(heading)} |"
    yield f"|{'---|' * len(heading)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
