"""What ComfyUI's own validation says of a workflow, in the words of the preflight.

Wire source: ComfyUI `server.py` post_prompt (400: `error` and `node_errors`; 200: `node_errors` of the outputs that it
leaves out); `execution.py` validate_prompt, validate_inputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from comfyworker.errors import Problem
from comfyworker.jobs import Graph
from comfyworker.wording import clip, quote, received
from comfyworker.workflow._findings import Findings
from comfyworker.workflow.graph import broken_links, is_link
from comfyworker.workflow.node_classes import InputSpec, NodeClasses, parse_input

_Wire = Mapping[str, Any]  # Any: wire data, read with care
_NODE_IN_DETAILS = re.compile(r"Node ID '#(?P<node_id>.*)'")
_FOLDERS = re.compile(r"(?:file://|(?<![\w:/.\\-])|(?<=\w:)(?=\\))(?:[A-Za-z]:)?[\\/]+(?:[^\s'\"\\/<>|:]+[\\/]+)+")
_FILE_IS_MISSING = re.compile(r"\bInvalid [\w ]*\bfile\b", re.IGNORECASE)
_TEXT_CHARS = 300


def problems_from_comfyui(body: object, graph: Graph, classes: NodeClasses | None) -> tuple[Problem, ...]:
    """Return what ComfyUI found wrong with `graph`, in the words of `check_workflow`.

    Tracebacks are left out and folders are cut from every text that ComfyUI wrote.

    Args:
        body: The body of its 400, or of a 200 whose `node_errors` name outputs that will not run.
        graph: The workflow that was sent.
        classes: What ComfyUI has, for the choices there are; None if that is not known.

    Returns:
        At least one problem for a 400; for a 200, none if every output will run.
    """
    found = Findings(graph, classes)
    answer = body if isinstance(body, Mapping) else {}
    node_errors = answer.get("node_errors")
    # ComfyUI answers an empty list instead of an object where it did not get as far as the nodes.
    for node_id, entry in node_errors.items() if isinstance(node_errors, Mapping) else ():
        errors = entry.get("errors") if isinstance(entry, Mapping) else None
        for error in errors if isinstance(errors, list) else ():
            if isinstance(error, Mapping):
                for problem in _node_problems(found, graph, classes, str(node_id), error):
                    found.add(problem)
    if not found.problems and answer.get("error"):
        found.add(_prompt_problem(found, graph, answer["error"]))
    if not found.problems and not _is_understood(answer):
        # Whoever sees what ComfyUI wrote may understand what we do not.
        message = (
            f"ComfyUI refused the workflow: {_raw_text(body)}"
            if body
            else "ComfyUI refused the workflow and did not say why"
        )
        found.add(Problem(message=message, code="refused", path="workflow"))
    return tuple(found.problems)


def _is_understood(answer: _Wire) -> bool:
    return isinstance(answer.get("node_errors"), Mapping)


def _raw_text(body: object) -> str:
    text = body if isinstance(body, str) else str(received(body))
    return clip(_FOLDERS.sub("…/", " ".join(text.split())), _TEXT_CHARS)


def _prompt_problem(found: Findings, graph: Graph, error: object) -> Problem:
    """Return the problem of a whole prompt: the `error` of a 400."""
    fields = error if isinstance(error, Mapping) else {"message": str(error)}
    extra = _extra(fields)
    named = _NODE_IN_DETAILS.search(str(fields.get("details")))
    node_id = str(extra.get("node_id") or (named["node_id"] if named else ""))
    if node_id in graph:
        # Either the class is not there, or class_type itself; the latter is no graph that we would have sent.
        return found.unknown_class(node_id)
    if fields.get("type") == "prompt_no_outputs":
        message = "the workflow has no output node, such as SaveImage or PreviewImage, so nothing would run"
        return Problem(message=message, code="no_outputs", path="workflow")
    return Problem(message=f"ComfyUI refused the workflow: {_text(fields)}", code="refused", path="workflow")


def _node_problems(
    found: Findings, graph: Graph, classes: NodeClasses | None, node_id: str, error: _Wire
) -> list[Problem]:
    """Return what one entry of `node_errors` means."""
    name = _extra(error).get("input_name")
    if "exception" in str(error.get("type")):
        # ComfyUI fails itself over a link to nowhere, and then names an input of another node.
        reason = f"ComfyUI could not check it: {_text(error)}"
        return broken_links(graph) or [found.at_node(node_id, "exception_during_validation", reason)]
    if not isinstance(name, str) or node_id not in graph:
        return [found.at_node(node_id, _code(str(error.get("type"))), _text(error))]
    return [_input_problem(found, graph, classes, node_id, error)]


def _input_problem(found: Findings, graph: Graph, classes: NodeClasses | None, node_id: str, error: _Wire) -> Problem:
    extra = _extra(error)
    kind, name, node = str(error.get("type")), str(extra["input_name"]), graph[node_id]
    node_class = classes.get(str(node["class_type"])) if classes is not None else None
    spec = node_class.inputs.get(name) if node_class else None
    if spec is None and extra.get("input_config"):
        spec = parse_input(name, extra["input_config"])
    if kind == "required_input_missing":
        return found.missing_input(node_id, node_class, name)
    if kind == "custom_validation_failed" and _names_missing_file(spec, error):
        return found.not_there(node_id, spec, name)
    if spec is not None:
        problem = _value_problem(found, kind, node_id, spec, extra)
        if problem is not None:
            return problem
    return found.at_input(node_id, name, _code(kind), _text(error, without=name))


def _value_problem(found: Findings, kind: str, node_id: str, spec: InputSpec, extra: _Wire) -> Problem | None:
    """Return the problem of a value or link; None for a kind that needs no words of ours."""
    value = extra.get("received_value")
    if kind == "value_not_in_list":
        return found.not_offered(node_id, spec, value)
    if kind in {"value_smaller_than_min", "value_bigger_than_max"}:
        return found.out_of_range(node_id, spec, value)
    if kind == "invalid_input_type":
        return found.bad_type(node_id, spec.name, spec.type_name)
    if kind == "bad_linked_input" and isinstance(value, list):
        return found.bad_link(node_id, spec.name, value)
    if kind == "return_type_mismatch":
        link = extra.get("linked_node")
        source = f"output {quote(link[1])} of {found.label(link[0])}" if is_link(link) else "the linked output"
        gives = extra.get("received_type")
        what = (
            f"takes {clip(spec.type_name)}, but {source} gives {clip(gives) if isinstance(gives, str) else 'a choice'}"
        )
        return found.at_input(node_id, spec.name, "link_type_mismatch", what)
    return None


def _extra(error: _Wire) -> _Wire:
    extra = error.get("extra_info")
    return extra if isinstance(extra, Mapping) else {}


def _names_missing_file(spec: InputSpec | None, error: _Wire) -> bool:
    """Tell whether a class's own check found no input file, as LoadImage's "Invalid image file: x.png"."""
    return bool((spec is None or spec.is_upload) and _FILE_IS_MISSING.search(str(error.get("details"))))


def _code(kind: str) -> str:
    """Return our code for a kind of ComfyUI's; one that we do not know is passed on."""
    ours = {
        "bad_linked_input": "bad_link",
        "return_type_mismatch": "link_type_mismatch",
        "invalid_input_type": "invalid_value_type",
        "value_smaller_than_min": "value_out_of_range",
        "value_bigger_than_max": "value_out_of_range",
    }
    return ours.get(kind, clip(kind) if re.fullmatch(r"\w{3,60}", kind) else "refused")


def _text(error: _Wire, *, without: str = "") -> str:
    """Return ComfyUI's own message and details as one sentence, without folders and without the input's name."""
    message = str(error.get("message") or error.get("type") or "no reason given")
    details = str(error.get("details") or "").removeprefix(without).removeprefix(" - ").strip(" ,:")
    text = f"{message}: {details}" if details and details not in message else message
    return clip(_FOLDERS.sub("", text), _TEXT_CHARS)
