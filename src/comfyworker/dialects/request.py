"""The request, all shapes in one: whatever dialect a client speaks, it may use the keys of all of them.

`{"input": {…}}`, where `input` may be JSON text, or the same as `payload` within Vast's envelope. `input` holds one of
`workflow`, `workflow_json`, or `modifier` with `modifications`; any of `images`, `models`, `overrides`, the shortcuts
(`prompt` … `size_node_id`), `request_id`, `timeout`, `response_format`, `comfy_org_api_key`, `output`, `s3`, `webhook`.
Beside it may stand `id`, `expected_time` and `s3Config`. Keys that nobody knows are named in a warning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import JsonValue, ValidationError

from comfyworker.dialects._fields import Fields, refused, wrong_type
from comfyworker.dialects._images import read_images
from comfyworker.dialects._models import read_models
from comfyworker.dialects._outward import read_output, read_store, read_webhook
from comfyworker.dialects._text import broken_text_path
from comfyworker.dialects.names import DIALECT_NAMES
from comfyworker.errors import InvalidRequest, InvalidWorkflow, Problem, WorkerError, WorkflowFormatUI
from comfyworker.jobs import Graph, JobRequest, Output, Override, Shortcuts
from comfyworker.workflow.graph import read_workflow

RAW_WORKFLOW = "RawWorkflow"
"""The only modifier that takes a workflow beside it."""
_WORKFLOW_KEYS = ("workflow", "workflow_json")
_SHORTCUT_TEXTS = ("prompt",)
_SHORTCUT_IDS = ("prompt_node_id", "seed_node_id", "size_node_id")
_SHORTCUT_NUMBERS = ("width", "height", "steps")
_KNOWN_KEYS = (
    *_WORKFLOW_KEYS,
    "modifier",
    "modifications",
    "images",
    "models",
    "overrides",
    *_SHORTCUT_TEXTS,
    *_SHORTCUT_IDS,
    *_SHORTCUT_NUMBERS,
    "seed",
    "request_id",
    "timeout",
    "response_format",
    "comfy_org_api_key",
    "return_outputs_as_base64",
    "output",
    "s3",
    "webhook",
)
_HINTED_KEYS = 3
_OVERRIDE_KEYS = ("node_id", "title", "field", "value")


class Words(NamedTuple):
    """What a dialect says of requests that are wrong in ways which its clients know."""

    no_input: str = "the request has no 'input'"
    input_not_json: str = "'input' is text that is not JSON"
    no_workflow: str = "input has no workflow: send workflow, workflow_json, or modifier with modifications"
    images: str | None = None
    """Said of every `images` that is not of the right shape; None says what is wrong."""


OUR_WORDS = Words()
_USUAL_OUTPUT = Output()


class _Source(NamedTuple):
    """What says which workflow runs."""

    workflow: Graph | None = None
    gui_workflow: dict[str, Any] | None = None  # Any: JSON from outside
    modifier: str | None = None
    modifications: dict[str, JsonValue] = {}  # noqa: RUF012  # never changed


def parse_request(
    body: object, *, new_id: Callable[[], str], words: Words = OUR_WORDS, usual: Output = _USUAL_OUTPUT
) -> JobRequest:
    """Return the job that a request asks for.

    Args:
        body: The request as parsed JSON, of any shape; other keys beside `input` are the platform's.
        new_id: Gives an id for a request that brings none.
        words: The dialect's own words for what is wrong.
        usual: How the dialect's clients want their artifacts if they do not say.

    Raises:
        InvalidRequest: with everything that is wrong with the request.
        InvalidWorkflow: the workflow is all that is wrong.
            Both tell what was noticed beside it in `details.warnings`, and unknown keys in the hint: one that is
            misspelled may be why something else is wrong.
    """
    problems: list[Problem] = []
    fields = Fields(_read_input(body, words), problems)
    beside = Fields(_unwrap(body), problems)
    warnings = [*fields.unknown_keys(_KNOWN_KEYS, where="input")]
    try:
        return _read_request(fields, beside, warnings, new_id=new_id, words=words, usual=usual)
    except (InvalidRequest, InvalidWorkflow) as error:
        if not warnings:
            raise
        raise _with_warnings(error, warnings) from error


def _with_warnings(error: WorkerError, warnings: Sequence[str]) -> WorkerError:
    """Return a refusal with what was noticed beside it."""
    unknown = [f"{text[0].upper()}{text[1:]}." for text in warnings if " is unknown and was ignored" in text]
    hint = " ".join(part for part in (error.hint, *unknown[:_HINTED_KEYS]) if part) or None
    details: dict[str, JsonValue] = {**error.details, "warnings": [*warnings]}
    return type(error)(error.message, hint=hint, problems=error.problems, details=details, retryable=error.retryable)


def _read_request(
    fields: Fields,
    beside: Fields,
    warnings: list[str],
    *,
    new_id: Callable[[], str],
    words: Words,
    usual: Output,
) -> JobRequest:
    """Read one key after the other; what is noticed joins `warnings`, also where the request is refused."""
    problems = fields.problems
    job_id = fields.job_id("request_id")
    platform_id = beside.job_id("id")
    timeout_s = fields.seconds("timeout")
    expected_time_s = beside.seconds("expected_time")
    fields.choice("response_format", DIALECT_NAMES)
    api_key = fields.secret("comfy_org_api_key")
    files = read_images(fields.given.get("images"), problems, words=words.images)
    overrides = _read_overrides(fields, warnings)
    shortcuts = _read_shortcuts(fields)
    models = read_models(fields, warnings)
    output = read_output(fields, usual, warnings)
    store = read_store(fields, beside, warnings)
    webhook = read_webhook(fields, warnings)
    source = _read_source(fields, words)
    if problems:
        raise refused(problems)
    return JobRequest(
        id=job_id or platform_id or new_id(),
        **source._asdict(),
        overrides=overrides,
        shortcuts=shortcuts,
        files=files,
        models=models,
        timeout_s=timeout_s,
        expected_time_s=expected_time_s,
        comfy_org_api_key=api_key,
        output=output,
        store=store,
        webhook=webhook,
        warnings=tuple(warnings),
    )


def wanted_id(body: object) -> str | None:
    """Return the id that a request brings, for its answer if it is refused; None if it brings none that fits."""
    nobody_asks: list[Problem] = []
    beside = _unwrap(body)
    given = _parse_text(beside.get("input"))
    inner = Fields(given, nobody_asks).job_id("request_id") if isinstance(given, Mapping) else None
    return inner or Fields(beside, nobody_asks).job_id("id")


def wanted_format(body: object) -> str | None:
    """Return the dialect that a request asks to be answered in; None if it names none that there is."""
    given = _parse_text(_unwrap(body).get("input"))
    return Fields(given, []).choice("response_format", DIALECT_NAMES) if isinstance(given, Mapping) else None


def _unwrap(body: object) -> Mapping[str, Any]:  # Any: JSON from outside
    """Return the object that holds `input`: the request, or the payload in Vast's envelope."""
    if not isinstance(body, Mapping):
        return {}
    payload = body.get("payload")
    return payload if body.get("input") is None and isinstance(payload, Mapping) else body


def _parse_text(given: object) -> object:
    """Return what `input` holds; None for text that is no JSON."""
    if not isinstance(given, str):
        return given
    try:
        parsed: object = json.loads(given)
    except (ValueError, RecursionError):
        return None
    return parsed


def _read_input(body: object, words: Words) -> Mapping[str, Any]:  # Any: JSON from outside
    given = _unwrap(body).get("input")
    if given is None:
        raise refused([Problem(message=words.no_input, code="missing_input", path="input")])
    parsed = _parse_text(given)
    if isinstance(given, str) and parsed is None and given.strip() != "null":
        raise refused([Problem(message=words.input_not_json, code="not_json", path="input")])
    if not isinstance(parsed, Mapping):
        raise refused([wrong_type("input", "an object", parsed)])
    broken = broken_text_path(parsed, "input")
    if broken is not None:
        message = f"{broken} holds half of a character (a single surrogate, as \\ud83d); send the whole of it"
        raise refused([Problem(message=message, code="not_text", path=broken)])
    return parsed


def _read_overrides(fields: Fields, warnings: list[str]) -> tuple[Override, ...]:
    overrides: list[Override] = []
    for entry in fields.entries("overrides"):
        before = len(fields.problems)
        node_id, title, field = entry.node_id("node_id"), entry.text("title"), entry.text("field")
        if not field and entry.given.get("field") in (None, ""):
            entry.add("field", "is missing: name the input, as inputs.text or text", "missing_field")
        if "value" not in entry.given:
            entry.add("value", "is missing", "missing_value")
        if len(fields.problems) == before and (node_id is None) == (title is None):
            entry.add("node_id", "or title must be given, and only one of them", "invalid_override")
        value = entry.json("value")
        warnings += entry.unknown_keys(_OVERRIDE_KEYS, where=entry.path("")[:-1])
        if len(fields.problems) == before:
            overrides.append(Override(node_id=node_id, title=title, field=field or "", value=value))
    return tuple(overrides)


def _read_shortcuts(fields: Fields) -> Shortcuts | None:
    values: dict[str, Any] = {key: fields.text(key) for key in _SHORTCUT_TEXTS}  # Any: each key has its own type
    values |= {key: fields.node_id(key) for key in _SHORTCUT_IDS}
    values |= {key: fields.whole_number(key) for key in _SHORTCUT_NUMBERS}
    values["seed"] = fields.seed("seed")
    return Shortcuts(**values) if any(value is not None for value in values.values()) else None


def _read_source(fields: Fields, words: Words) -> _Source:
    given, problems = fields.given, fields.problems
    modifier = fields.text("modifier") or None
    is_modified = given.get("modifier") not in (None, "")
    modifications = fields.mapping("modifications")
    keys = [key for key in _WORKFLOW_KEYS if given.get(key) is not None]
    # Old clients send an empty workflow_json beside a modifier.
    filled = [key for key in keys if given[key] not in ({}, "")]
    if modifications and not is_modified:
        fields.add("modifications", "need a modifier: name it in modifier", "missing_modifier")
    if filled and is_modified and modifier != RAW_WORKFLOW:
        fields.add("modifier", f"and {filled[0]} exclude each other: send one of them", "two_modes")
    if len(filled) > 1:
        fields.add("workflow", "and workflow_json exclude each other: send one of them", "two_modes")
    if not is_modified and not filled and "workflow" not in keys:
        if not modifications:
            # First: clients know this text, and without a workflow nothing else matters much.
            problems.insert(0, Problem(message=words.no_workflow, code="missing_workflow", path="workflow"))
        return _Source()
    checked = fields.json("modifications") if modifications else {}
    source = _Source(modifier=modifier, modifications=checked if isinstance(checked, dict) else {})
    if is_modified and not filled:
        return source
    key = (filled or keys)[0]
    return _read_workflow(source, key, given[key], problems)


def _read_workflow(source: _Source, key: str, value: object, problems: list[Problem]) -> _Source:
    """Add the graph to `source`; if there are other problems already, its problems join them."""
    try:
        # The preflight finds links to nodes that are not there, together with all else that ComfyUI would refuse.
        return source._replace(workflow=read_workflow(value, path=key, check_links=False))
    except WorkflowFormatUI:
        document = _parse_text(value)
        try:
            return source._replace(gui_workflow=JobRequest(id=key, gui_workflow=document).gui_workflow)
        except ValidationError:
            message = f"{key} is nested too deeply"
            problems.append(Problem(message=message, code="not_a_workflow", path=key))
    except InvalidWorkflow as error:
        if not problems:
            raise
        problems.extend(error.problems)
    return source
