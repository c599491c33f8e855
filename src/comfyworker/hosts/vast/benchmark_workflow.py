"""Which workflow a worker on Vast.ai is rated by.

The first of these that is there: the file of BENCHMARK_JSON_PATH; `misc/benchmark.json` below the current folder; the
file that Vast's ComfyUI image names; DEFAULT_WORKFLOW; the modifier Text2Image, if ComfyUI can run it; a picture that
needs no model. A file holds a workflow, or a whole request with `input` and `expected_time`, which then says how much
workload a run is.
Wire source: vast-ai/pyworker, `workers/comfyui-json/worker.py` and its README, "Benchmarking".
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson
import structlog
from pydantic import JsonValue

from comfyworker.dialects import dialect_named
from comfyworker.errors import InvalidSettings, Problem, WorkerError
from comfyworker.hosts.vast.workload import workload_of
from comfyworker.jobs import RANDOM_INT, JobRequest
from comfyworker.settings import Settings, VastSettings
from comfyworker.workflow.graph import is_link
from comfyworker.workflow.node_classes import NodeClasses

if TYPE_CHECKING:  # it is loaded while ComfyUI starts
    from comfyworker.pipeline import Pipeline

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_MISC: Final = Path("misc/benchmark.json")
_OF_VASTS_IMAGE: Final = Path("/opt/comfyui-api-wrapper/workflows/pyworker_benchmark.json")
SEEDS: Final = frozenset({"seed", "noise_seed"})
"""As nodes call them; `seed` is also the shortcut's name, and that of our modifiers' parameter."""
_PROMPT: Final = "an old harbour at dawn, fishing boats, light fog"
_LOADER: Final = "CheckpointLoaderSimple"
_CHECKPOINT: Final = "ckpt_name"
_MOST_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True)
class Benchmark:
    """What each run asks for."""

    source: str
    """Where it comes from, for people."""
    body: Mapping[str, JsonValue]
    """The request as a client would send it; what is drawn anew for each run is a placeholder in it."""
    changes: bool = True
    """Whether two runs differ, so that ComfyUI's cache does not answer the second."""

    @property
    def workload(self) -> float:
        """The workload of one run."""
        return workload_of(self.body.get("expected_time"))

    def make_request(self) -> JobRequest:
        """Return the job of one run.

        Raises:
            WorkerError: with everything that is wrong with it.
        """
        return dialect_named("pyworker").parse(self.body, new_id=lambda: f"benchmark-{uuid.uuid4()}")


async def find_benchmark(settings: Settings, pipeline: Pipeline, classes: NodeClasses, *, cwd: Path) -> Benchmark:
    """Return what this worker is rated by.

    Args:
        settings: The worker's settings.
        pipeline: What runs it; asked whether it would.
        classes: What ComfyUI has.
        cwd: Where a relative path is looked for.

    Raises:
        InvalidSettings: a file that is there, or that BENCHMARK_JSON_PATH names, holds no workflow.
    """
    named, default = settings.vast.benchmark_path, settings.modifiers.default_workflow
    if named is not None:
        return _from_file(cwd / named, "BENCHMARK_JSON_PATH")
    for path in (cwd / _MISC, _OF_VASTS_IMAGE):
        if path.is_file():
            return _from_file(path, path.name if path == _OF_VASTS_IMAGE else str(_MISC))
    if default is not None:
        return _from_file(cwd / default, "DEFAULT_WORKFLOW")
    text_to_image = _text_to_image(settings.vast, classes)
    try:
        await pipeline.check(text_to_image.make_request())
    except WorkerError as error:
        log.warning("benchmark.without_model", reason=error.message)
        return _plain_picture()
    return text_to_image


def _from_file(path: Path, source: str) -> Benchmark:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise _unusable(source, f"is larger than {_MOST_BYTES} bytes")
        content: JsonValue = orjson.loads(path.read_bytes())
    except OSError as error:
        raise _unusable(source, f"cannot be read: {(error.strerror or type(error).__name__).lower()}") from error
    except orjson.JSONDecodeError as error:
        raise _unusable(source, f"is not JSON: {error.msg}, line {error.lineno}") from error
    if not isinstance(content, dict):
        raise _unusable(source, "holds no workflow: it must be one JSON object")
    body: dict[str, JsonValue] = content if "input" in content else {"input": {"workflow_json": content}}
    asked = body["input"]
    if isinstance(asked, dict):
        body = {**body, "input": _with_fresh_input(asked)}
    benchmark = Benchmark(source, body, changes=_has_placeholder(body["input"]))
    try:
        orjson.dumps(body)  # nothing can be known of what is nested too deeply to be written
        benchmark.make_request()
    except orjson.JSONEncodeError as error:
        raise _unusable(source, "is nested too deeply") from error
    except WorkerError as error:
        raise _unusable(source, f"is no job: {error.message}") from error
    return benchmark


def _with_fresh_input(asked: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return a request's input whose fixed seeds are drawn for each run, wherever they stand."""
    fresh: dict[str, JsonValue] = {
        name: with_fresh_seeds(asked[name]) for name in ("workflow_json", "workflow") if name in asked
    }
    chosen = asked.get("modifications")
    if isinstance(chosen, dict):
        fresh["modifications"] = chosen | dict.fromkeys(SEEDS & chosen.keys(), RANDOM_INT)
    return {**asked, **fresh, **dict.fromkeys({"seed"} & asked.keys(), RANDOM_INT)}


def with_fresh_seeds(graph: JsonValue) -> JsonValue:
    """Return a workflow in API format whose fixed seeds are drawn for each run; anything else as it is."""
    if not isinstance(graph, dict):
        return graph
    fresh: dict[str, JsonValue] = {}
    for node_id, node in graph.items():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        if not isinstance(node, dict) or not isinstance(inputs, dict):
            fresh[node_id] = node
            continue
        seeds: dict[str, JsonValue] = {name: RANDOM_INT for name in SEEDS & inputs.keys() if not is_link(inputs[name])}
        fresh[node_id] = node | {"inputs": inputs | seeds}
    return fresh


def _text_to_image(settings: VastSettings, classes: NodeClasses) -> Benchmark:
    asked: dict[str, JsonValue] = {
        "prompt": _PROMPT,
        "width": settings.benchmark_width,
        "height": settings.benchmark_height,
        "steps": settings.benchmark_steps,
        "seed": RANDOM_INT,
    }
    loader = classes.get(_LOADER)
    spec = loader.inputs.get(_CHECKPOINT) if loader is not None else None
    if spec is not None and spec.choices:
        asked[_CHECKPOINT] = str(spec.choices[0])
    body: dict[str, JsonValue] = {"input": {"modifier": "Text2Image", "modifications": asked}}
    return Benchmark("Text2Image", body)


def _plain_picture() -> Benchmark:
    """Return a picture of one colour, another one for each run: made without any model, by nodes of ComfyUI's own."""
    empty: dict[str, JsonValue] = {"width": 512, "height": 512, "batch_size": 1, "color": RANDOM_INT}
    graph: dict[str, JsonValue] = {
        "1": {"class_type": "EmptyImage", "inputs": empty},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "comfyworker-benchmark"}},
    }
    return Benchmark("a picture without a model", {"input": {"workflow_json": graph}})


def _has_placeholder(value: object) -> bool:
    """Tell whether something is drawn for each run; without recursion, for a file may be nested as deep as it likes."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if one == RANDOM_INT:
            return True
        waiting.extend(one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
    return False


def _unusable(source: str, reason: str) -> InvalidSettings:
    message = f"the benchmark's file ({source}) {reason}"
    return InvalidSettings(
        message,
        hint="Give it a workflow in API format, and start the worker again; without a file, Text2Image is run.",
        problems=[Problem(message=message, code="invalid_benchmark", path=source)],
    )
