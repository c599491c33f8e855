"""What ComfyUI's events say about one prompt: how far it is, what it has put out, how it ended.

Wire facts (ComfyUI 0.3.75, `execution.py` and `main.py`): `executed` carries a node's outputs, for cached nodes too;
`execution_success` is sent before the history is written, `executing` with `node: null` after, so that is the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.previews import Preview, PreviewSink
from comfyworker.jobs import Graph, Progress

Payload = Mapping[str, Any]  # Any: an event's data is whatever ComfyUI sends; each field is checked where it is read


class NodeFailure(BaseModel):
    """What `execution_error` said."""

    model_config = ConfigDict(frozen=True)

    node_id: str
    class_type: str
    exception_type: str
    exception_message: str

    @classmethod
    def from_payload(cls, payload: Payload) -> NodeFailure:
        """Read the fields of an `execution_error` event; its traceback and inputs are left behind."""
        return cls(
            node_id=str(payload.get("node_id", "")),
            class_type=str(payload.get("node_type", "")),
            exception_type=str(payload.get("exception_type", "")),
            exception_message=str(payload.get("exception_message", "")).strip(),
        )


class PromptTracker:
    """Follows one prompt through its events.

    Feed it every event of the prompt in order; read `progress`, `outputs` and the end from it. Pure but for the clock.
    """

    def __init__(self, graph: Graph, weights: Mapping[str, float], on_preview: PreviewSink | None = None) -> None:
        """Start before anything has happened.

        Args:
            graph: The workflow as it was submitted, for class names.
            weights: How much of the whole each node that will run counts for.
            on_preview: Is told of each preview, with the node of `graph` that it is of.
        """
        self._graph = graph
        self._on_preview = on_preview
        self._weights = dict(weights) or dict.fromkeys(graph, 1.0)
        self._total = sum(self._weights.values())
        self._done: set[str] = set()
        self._root: dict[str, str] = {}
        self._fraction: dict[str, float] = {}
        self._current: str | None = None
        self._current_since = 0.0
        self._tells_states = False
        self._step: int | None = None
        self._steps: int | None = None
        self.progress = Progress(nodes_total=len(self._weights))
        self.outputs: dict[str, Payload] = {}
        self.node_timings_s: dict[str, float] = {}
        self.cached_nodes: frozenset[str] = frozenset()
        self.started_at: float | None = None
        """Clock (`time.perf_counter`) at which ComfyUI began; None while it waits in the queue."""
        self.finished_at: float | None = None
        self.failure: NodeFailure | None = None
        self.blocked: tuple[NodeFailure, ...] = ()
        """Branches that a node stopped on purpose (ExecutionBlocker with a message); the rest went on."""
        self.is_interrupted = False
        self.is_successful = False
        self._handlers: dict[str, Callable[[Payload], None]] = {
            "execution_start": self._on_start,
            "execution_cached": self._on_cached,
            "executing": self._on_executing,
            "progress": self._on_progress,
            "progress_state": self._on_progress_state,
            "executed": self._on_executed,
            "execution_success": self._on_success,
            "execution_error": self._on_error,
            "execution_interrupted": self._on_interrupted,
        }

    @property
    def is_finished(self) -> bool:
        """Whether ComfyUI is through with the prompt, well or not."""
        return self.finished_at is not None

    @property
    def is_decided(self) -> bool:
        """Whether ComfyUI has said how the prompt ended."""
        return self.is_successful or self.is_interrupted or self.failure is not None

    def feed(self, event_type: str, payload: Payload) -> Progress | None:
        """Take one event; return the new progress if it changed, else None."""
        handler = self._handlers.get(event_type)
        if handler is None or self.is_finished:
            return None
        handler(payload)
        return self._snapshot()

    def feed_preview(self, preview: Preview) -> None:
        """Take one preview."""
        if self._on_preview is None or self.is_finished:
            return
        node = self._current
        if preview.node_id is not None:
            node = self._remember_root(preview.node_id, preview.display_node_id)
        if node is not None:
            self._on_preview(node, preview.content_type, preview.data)

    def complete_from_history(self, entry: Payload) -> Progress | None:
        """Take what `/history/{prompt_id}` says of the finished prompt; return the new progress if it changed.

        The history's outputs are the same that `executed` events would have brought, and its messages those of events.
        """
        self.blocked = ()
        outputs = entry.get("outputs") or {}
        self.outputs.update({str(node): output for node, output in outputs.items() if isinstance(output, Mapping)})
        status = entry.get("status") or {}
        for message in status.get("messages") or []:
            event_type, payload = str(message[0]), message[1]
            if event_type in {"execution_error", "execution_interrupted", "execution_success"}:
                self._handlers[event_type](payload)
        if status.get("status_str") == "success":
            self.is_successful = True
        self._finish()
        return self._snapshot()

    def _on_start(self, _payload: Payload) -> None:
        self.started_at = time.perf_counter()

    def _on_cached(self, payload: Payload) -> None:
        self.cached_nodes = frozenset(str(node) for node in payload.get("nodes") or ())
        self._done.update(self.cached_nodes & self._weights.keys())

    def _on_executing(self, payload: Payload) -> None:
        node = payload.get("node")
        if node is None:
            self._leave_current()
            self._finish()
            return
        if self.started_at is None:
            self.started_at = time.perf_counter()
        root = self._remember_root(str(node), payload.get("display_node"))
        if root == self._current:
            return
        self._leave_current()
        self._current = root
        self._step = self._steps = None
        self._current_since = time.perf_counter()

    def _on_progress(self, payload: Payload) -> None:
        node, value, maximum = payload.get("node"), payload.get("value"), payload.get("max")
        if node is None or not isinstance(value, int | float) or not isinstance(maximum, int | float) or maximum <= 0:
            return
        root = self._root.get(str(node), str(node))
        self._fraction[root] = min(max(value / maximum, self._fraction.get(root, 0.0)), 1.0)
        if root == self._current:
            self._step, self._steps = int(value), int(maximum)

    def _on_progress_state(self, payload: Payload) -> None:
        self._tells_states = True
        for node, state in (payload.get("nodes") or {}).items():
            root = self._remember_root(str(node), state.get("display_node_id"))
            if state.get("state") == "finished" and root == str(node):
                self._done.add(root)

    def _on_executed(self, payload: Payload) -> None:
        node, output = str(payload.get("node")), payload.get("output")
        root = self._remember_root(node, payload.get("display_node"))
        if isinstance(output, Mapping):
            self.outputs[node] = output
        if root == node:
            self._done.add(node)

    def _on_success(self, _payload: Payload) -> None:
        self._leave_current()
        self._done.update(self._weights)
        self.is_successful = True

    def _on_error(self, payload: Payload) -> None:
        failure = NodeFailure.from_payload(payload)
        # A node that blocks its branch with a message sends execution_error too, and ComfyUI carries on
        # (execution.py, execution_block_cb); only that type is no failure of the prompt.
        if failure.exception_type == "ExecutionBlocked":
            self.blocked = (*self.blocked, failure)
        elif self.failure is None:
            self.failure = failure

    def _on_interrupted(self, _payload: Payload) -> None:
        self.is_interrupted = True

    def _remember_root(self, node: str, display_node: object) -> str:
        """Return the node of the submitted graph that `node` belongs to; nodes made while running belong to another."""
        if node not in self._graph and isinstance(display_node, str):
            self._root[node] = display_node
        return self._root.get(node, node)

    def _leave_current(self) -> None:
        if self._current is not None:
            spent_s = time.perf_counter() - self._current_since
            self.node_timings_s[self._current] = self.node_timings_s.get(self._current, 0.0) + spent_s
            # A lazy node is left before it is done, and entered again; progress_state knows, but older ComfyUIs do not
            # send it.
            if not self._tells_states and self._current in self._weights and self.failure is None:
                self._done.add(self._current)
        self._current = None
        self._step = self._steps = None

    def _finish(self) -> None:
        if self.finished_at is None:
            self.finished_at = time.perf_counter()

    def _snapshot(self) -> Progress | None:
        partial = self._fraction
        reached = sum(
            weight if node in self._done else weight * partial.get(node, 0.0) for node, weight in self._weights.items()
        )
        # Never backwards: a lazy node is entered twice, and a node made at run time may restart its parent's steps.
        value = max(self.progress.value, min(reached / self._total, 1.0) if self._total else 1.0)
        class_type = self._graph.get(self._current or "", {}).get("class_type")
        progress = Progress(
            value=value,
            nodes_done=max(self.progress.nodes_done, len(self._done & self._weights.keys())),
            nodes_total=len(self._weights),
            current_node=self._current,
            current_node_class=class_type if isinstance(class_type, str) else None,
            step=self._step,
            steps=self._steps,
        )
        if progress == self.progress:
            return None
        self.progress = progress
        return progress
