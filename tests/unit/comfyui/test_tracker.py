"""Progress, outputs and the end of a prompt, from ComfyUI's events.

The frames have the shapes that ComfyUI 0.3.75 sends.
"""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from comfyworker.comfyui.previews import Preview
from comfyworker.comfyui.tracker import NodeFailure, PromptTracker

GRAPH: dict[str, dict[str, Any]] = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {}},
    "2": {"class_type": "KSampler", "inputs": {"steps": 8}},
    "3": {"class_type": "SaveImage", "inputs": {}},
}
WEIGHTS = {"1": 1.0, "2": 8.0, "3": 1.0}
IMAGE = {"images": [{"filename": "a_00001_.png", "subfolder": "", "type": "output"}]}


def tracker() -> PromptTracker:
    """Return a new tracker of the graph above."""
    return PromptTracker(GRAPH, WEIGHTS)


def executing(node: str | None) -> tuple[str, dict[str, Any]]:
    """Return the event that a node begins, or that the prompt has ended."""
    return "executing", {"node": node, "display_node": node, "prompt_id": "p"}


def test_value_is_weighted_by_nodes_and_steps() -> None:
    """Half of the sampler's steps is half of the sampler's weight."""
    prompt = tracker()
    prompt.feed("execution_start", {"prompt_id": "p"})
    prompt.feed(*executing("1"))
    prompt.feed(*executing("2"))
    progress = prompt.feed("progress", {"value": 4, "max": 8, "node": "2", "prompt_id": "p"})
    assert progress is not None
    assert progress.model_dump() == {
        "value": 0.5,
        "nodes_done": 1,
        "nodes_total": 3,
        "current_node": "2",
        "current_node_class": "KSampler",
        "step": 4,
        "steps": 8,
        "message": None,
    }


def test_one_snapshot_a_change() -> None:
    """An event that changes nothing gives no snapshot."""
    prompt = tracker()
    assert prompt.feed(*executing("1")) is not None
    assert prompt.feed(*executing("1")) is None
    assert prompt.feed("status", {"status": {}}) is None


def test_cached_nodes_count_as_done() -> None:
    """Nodes that ComfyUI does not run again are done from the beginning."""
    progress = tracker().feed("execution_cached", {"nodes": ["1", "2"], "prompt_id": "p"})
    assert progress is not None
    assert (progress.value, progress.nodes_done) == (0.9, 2)


def test_outputs_come_from_executed() -> None:
    """Each node's outputs are kept as they were reported; a cached node without any is none."""
    prompt = tracker()
    prompt.feed("executed", {"node": "3", "display_node": "3", "output": IMAGE, "prompt_id": "p"})
    prompt.feed("executed", {"node": "2", "display_node": "2", "output": None, "prompt_id": "p"})
    assert prompt.outputs == {"3": IMAGE}


def test_the_end_is_executing_null_not_success() -> None:
    """execution_success comes before the history is written, so it ends nothing."""
    prompt = tracker()
    prompt.feed("execution_success", {"prompt_id": "p"})
    assert (prompt.is_finished, prompt.is_successful) == (False, True)
    prompt.feed(*executing(None))
    assert prompt.is_finished


def test_nodes_made_while_running_count_for_their_parent() -> None:
    """A node that another one expanded into is shown as that one and does not count as done for it."""
    prompt = tracker()
    prompt.feed(*executing("2"))
    prompt.feed("executing", {"node": "2.0.0.1", "display_node": "2", "prompt_id": "p"})
    progress = prompt.feed("progress", {"value": 1, "max": 4, "node": "2.0.0.1", "prompt_id": "p"})
    assert progress is not None
    assert (progress.current_node, progress.step, progress.steps) == ("2", 1, 4)


def test_an_error_is_kept_and_its_traceback_left_behind() -> None:
    """The first node that raised is the failure."""
    prompt = tracker()
    payload = {"node_id": "2", "node_type": "KSampler", "exception_type": "ValueError", "exception_message": "bad\n"}
    prompt.feed("execution_error", {**payload, "traceback": ["secret"], "current_inputs": {"text": ["secret"]}})
    expected = NodeFailure(node_id="2", class_type="KSampler", exception_type="ValueError", exception_message="bad")
    assert prompt.failure == expected


def test_a_blocked_branch_is_no_failure() -> None:
    """A node that stops its branch with a message sends execution_error, but the prompt goes on."""
    prompt = tracker()
    prompt.feed("execution_error", {"node_id": "3", "node_type": "SaveImage", "exception_type": "ExecutionBlocked"})
    assert prompt.failure is None
    assert [blocked.node_id for blocked in prompt.blocked] == ["3"]


def test_history_completes_what_was_missed() -> None:
    """Outputs and status of a history entry finish a prompt whose events were lost."""
    prompt = tracker()
    progress = prompt.complete_from_history(
        {
            "outputs": {"3": IMAGE},
            "status": {"status_str": "success", "completed": True, "messages": [["execution_success", {}]]},
        }
    )
    assert progress is not None
    assert (progress.value, prompt.is_finished, prompt.is_successful) == (1.0, True, True)
    assert prompt.outputs == {"3": IMAGE}


def test_history_tells_an_error() -> None:
    """A history entry of a failed prompt carries the node that raised."""
    prompt = tracker()
    error = {"node_id": "2", "node_type": "KSampler", "exception_type": "E", "exception_message": "m"}
    prompt.complete_from_history(
        {"outputs": {}, "status": {"status_str": "error", "messages": [["execution_error", error]]}}
    )
    assert prompt.failure is not None
    assert prompt.is_finished


NODES = st.sampled_from(["1", "2", "3", "9", "2.0.0.1"])
EVENTS = st.one_of(
    st.tuples(st.just("execution_start"), st.just({})),
    st.tuples(st.just("execution_cached"), st.fixed_dictionaries({"nodes": st.lists(NODES)})),
    st.tuples(st.just("executing"), st.fixed_dictionaries({"node": NODES, "display_node": st.just("2")})),
    st.tuples(
        st.just("progress"),
        st.fixed_dictionaries({"node": NODES, "value": st.integers(-3, 30), "max": st.integers(-1, 20)}),
    ),
    st.tuples(st.just("executed"), st.fixed_dictionaries({"node": NODES, "output": st.none()})),
    st.tuples(
        st.just("progress_state"),
        st.fixed_dictionaries(
            {
                "nodes": st.dictionaries(
                    NODES, st.fixed_dictionaries({"state": st.sampled_from(["running", "finished"])})
                )
            }
        ),
    ),
)


@given(st.lists(EVENTS, max_size=30))
def test_progress_never_runs_backwards(events: list[tuple[str, dict[str, Any]]]) -> None:
    """Whatever order events come in, value and nodes_done only grow, and value stays within 0..1."""
    prompt = tracker()
    seen = [prompt.progress]
    for event_type, payload in events:
        progress = prompt.feed(event_type, payload)
        if progress is not None:
            seen.append(progress)
    values = [progress.value for progress in seen]
    assert values == sorted(values)
    assert all(0.0 <= value <= 1.0 for value in values)
    assert [progress.nodes_done for progress in seen] == sorted(progress.nodes_done for progress in seen)


def test_a_preview_is_of_the_node_that_the_workflow_has() -> None:
    """A node that was made while another ran shows what that other one is at; one without a name is the current one."""
    seen: list[tuple[str, str, bytes]] = []
    tracker = PromptTracker(GRAPH, WEIGHTS, lambda *preview: seen.append(preview))
    tracker.feed_preview(Preview("image/png", b"too early"))
    tracker.feed("executing", {"node": "2"})
    tracker.feed_preview(Preview("image/jpeg", b"current"))
    tracker.feed_preview(Preview("image/png", b"named", node_id="3"))
    tracker.feed_preview(Preview("image/png", b"made", node_id="made.0.1", display_node_id="2"))
    tracker.feed("executing", {"node": None})
    tracker.feed_preview(Preview("image/png", b"too late", node_id="3"))
    assert seen == [("2", "image/jpeg", b"current"), ("3", "image/png", b"named"), ("2", "image/png", b"made")]


def test_nobody_need_want_previews() -> None:
    """Then they are passed over."""
    PromptTracker(GRAPH, WEIGHTS).feed_preview(Preview("image/png", b"x", node_id="3"))
