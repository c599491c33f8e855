"""Troubles that people meet, made on a real server: the code and the words are those that the page leads to."""

from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from comfyworker.jobs import Graph
from support import workflows
from support.command import call, environment
from support.real_comfyui import CHECKPOINT_NAME
from support.serving import Serving, post, ready, session
from support.troubleshooting import codes_of, messages_of, pattern_of

GUI: dict[str, Any] = {"nodes": [{"id": 1, "type": "NobodysNode", "mode": 0}], "links": [], "version": 0.4}


def request(graph: Graph | dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a request as RunPod's clients send it."""
    return {"input": {"workflow": graph, **more}}


def with_input(node_id: str, **inputs: Any) -> Graph:
    """Return a text-to-image graph with other inputs of a node."""
    graph = workflows.text_to_image()
    graph[node_id]["inputs"] |= inputs
    return graph


def troubles(tmp_path: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the code and the request of each trouble that a request can make, by its heading on the page."""
    override = {"node_id": "66", "field": "inputs.text", "value": "new prompt"}
    never = workflows.wait(steps=1, until_file=tmp_path / "never")
    elsewhere = workflows.text_to_image()
    elsewhere["20"] = workflows.node("UNETLoader", unet_name=CHECKPOINT_NAME, weight_dtype="default")
    elsewhere["5"]["inputs"]["model"] = ["20", 0]
    return {
        "Node not found": ("invalid_workflow", request(workflows.text_to_image(), overrides=[override])),
        "Missing node in workflow": ("missing_node", request({"1": workflows.node("NobodysNode")})),
        "Missing models": ("missing_model", request(with_input("1", ckpt_name="nobodys.safetensors"))),
        "A model lies in the wrong folder": ("missing_model", request(elsewhere)),
        "Workflow errors": ("workflow_format_ui", request(GUI)),
        "Timeout": ("job_timeout", request(never, timeout=0.5)),
        "Not enough GPU memory": ("out_of_memory", request(workflows.out_of_memory())),
    }


async def test_what_a_request_can_meet(server: Serving, client: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Each is answered with a code that its section leads to, in words that the code's entry has."""
    await ready(server)
    told = {}
    for symptom, (code, body) in troubles(tmp_path).items():
        _, answer = await post(client, "/runsync", body)
        said = " ".join([answer["error"], *answer["output"].get("details", [])])
        is_told = any(pattern_of(message).search(said) for message in messages_of(code))
        told[symptom] = (answer["output"]["error_code"], code in codes_of(symptom), is_told or said)
    assert told == {symptom: (code, True, True) for symptom, (code, _) in troubles(tmp_path).items()}


async def test_a_web_page_of_another_origin(server: Serving) -> None:
    """A server without keys refuses it, with the code that the section leads to."""
    async with session(server) as client:
        code, answer = await post(client, "/run", {"input": {}}, Origin="https://shop.example.com")
    assert code == 403
    assert "forbidden" in codes_of("A web page gets no answer")
    assert any(pattern_of(message).search(answer["error"]) for message in messages_of("forbidden"))


@pytest.mark.parametrize(
    ("symptom", "code", "args", "variables"),
    [
        pytest.param("The server cannot be reached", "invalid_settings", ("serve", "--host", "0.0.0.0"), {}, id="keys"),
        pytest.param(
            "Connection error",
            "comfyui_unreachable",
            ("handle",),
            {"COMFY_API_URL": "http://127.0.0.1:9", "COMFY_API_AVAILABLE_TIMEOUT_S": "0.1"},
            id="ComfyUI",
        ),
    ],
)
def test_what_a_command_can_meet(
    symptom: str, code: str, args: tuple[str, ...], variables: dict[str, str], tmp_path: Path
) -> None:
    """Its answer or its error has the code and the words of the page."""
    body = orjson.dumps(request(workflows.colour((1, 2, 3))))
    done = call(*args, environ={**environment(), **variables}, cwd=tmp_path, stdin=body)
    assert done.code != 0
    assert code in codes_of(symptom)
    assert code in done.out + done.err
    assert any(pattern_of(message).search(done.out + done.err) for message in messages_of(code))
