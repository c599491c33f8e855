"""A refusal with what to add to config.yml."""

from typing import Any

import pytest

from comfyworker.errors import InvalidRequest, InvalidWorkflow, MissingModel, MissingNode, Problem, WorkerError
from comfyworker.jobs import Graph, JobRequest, ModelOffer
from comfyworker.provision.config.reading import parse_config
from comfyworker.provision.proposal import explain_missing, find_missing

URL = "https://example.com/b.safetensors"
GRAPH: Graph = {
    "1": {"class_type": "LoraLoader", "inputs": {"lora_name": "wan/b.safetensors"}},
    "2": {"class_type": "Seed (rgthree)", "inputs": {}},
}
NO_MODEL = Problem(message="no b", code="missing_model", node_id="1", class_type="LoraLoader", input_name="lora_name")
NO_NODE = Problem(message="no seed", code="missing_node", node_id="2", class_type="Seed (rgthree)")
TOO_OLD = Problem(message="no new", code="missing_node", node_id="3", class_type="BatchImagesNode")


def request(**parts: Any) -> JobRequest:
    """Return a request for the workflow."""
    return JobRequest(id="job", workflow=GRAPH, **parts)


def explained(error: WorkerError, asked: JobRequest, graph: Graph | None = None) -> WorkerError:
    """Return the error as the pipeline answers it."""
    missing = find_missing(error, asked, GRAPH if graph is None else graph, None)
    assert missing is not None
    return explain_missing(error, missing, {("loras/wan", "b.safetensors"): "It is not fetched: so."})


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("x", problems=[NO_MODEL]),
        InvalidWorkflow("x", problems=[Problem(message="cycle", code="cycle")]),
        MissingModel("x"),
    ],
)
def test_what_lacks_nothing(error: WorkerError) -> None:
    """Other refusals are left as they are."""
    assert find_missing(error, request(), GRAPH, None) is None


def test_a_missing_model() -> None:
    """With the URL that the request says, in the subfolder of its name; what was there stays."""
    offer = ModelOffer(url=f"{URL}?sig=5ecre7", destination="loras/wan", filename="b.safetensors", size_bytes=7)
    error = MissingModel("no b", hint="Put it there.", problems=[NO_MODEL], details={"kept": 1})
    answer = explained(error, request(models=(offer,)))
    line = f"- {{url: {URL}, destination: loras/wan, filename: b.safetensors}}"
    assert type(answer) is MissingModel
    assert answer.hint == f"Put it there. Add to config.yml below `models:` `{line}`. It is not fetched: so."
    assert answer.details["kept"] == 1
    assert answer.details["missing_models"] == [
        {
            "filename": "b.safetensors",
            "destination": "loras/wan",
            "url": URL,
            "wanted_by": ["node 1 (LoraLoader)"],
            "not_fetched": "It is not fetched: so.",
        }
    ]
    (entry,) = parse_config(str(answer.details["config_yml"])).models
    assert (entry.url, entry.destination, entry.filename) == (URL, "loras/wan", "b.safetensors")
    assert "5ecre7" not in str(answer.to_dict())


def test_models_and_classes() -> None:
    """Both have their lines; a class of a newer ComfyUI needs none."""
    error = InvalidWorkflow("all", problems=[NO_MODEL, NO_NODE, TOO_OLD])
    answer = explained(error, request())
    config = parse_config(str(answer.details["config_yml"]))
    assert ([node.url for node in config.nodes], config.models) == (["https://github.com/rgthree/rgthree-comfy"], ())
    assert "A newer ComfyUI brings BatchImagesNode." in str(answer.hint)


def test_whether_models_are_all() -> None:
    """Only then is anything fetched."""
    other = Problem(message="cycle", code="cycle")
    found = [
        find_missing(InvalidWorkflow("x", problems=problems), request(), GRAPH, None)
        for problems in ([NO_MODEL], [NO_MODEL, NO_MODEL], [NO_MODEL, NO_NODE], [NO_MODEL, other])
    ]
    assert [missing.is_all if missing is not None else None for missing in found] == [True, True, False, False]


def test_the_page_says_which_pack() -> None:
    """A workflow in GUI format that cannot be converted names the pack itself."""
    node = {
        "id": 2, "type": "Nobody Knows", "inputs": [], "outputs": [{"name": "x", "type": "X", "links": [1]}],
        "properties": {"cnr_id": "some-pack", "ver": "1.2.3"},
    }  # fmt: skip
    saved = {"nodes": [node, {**node, "id": 3}], "links": [[1, 2, 0, 3, 0, "X"]], "version": 0.4}
    problem = NO_NODE.model_copy(update={"class_type": "Nobody Knows"})
    asked = JobRequest(id="job", gui_workflow=saved)
    answer = explained(MissingNode("x", problems=[problem]), asked, {})
    assert [(one.name, one.version) for one in parse_config(str(answer.details["config_yml"])).nodes] == [
        ("some-pack", "1.2.3")
    ]


def test_thousands_of_entries() -> None:
    """Metadata that lists a name over and over is looked at in part."""
    entries = [{"name": "b.safetensors", "url": f"{URL}?type={index}", "directory": "loras"} for index in range(50_000)]
    graph = {"1": {**GRAPH["1"], "_meta": {"models": entries}}}
    answer = explained(MissingModel("x", problems=[NO_MODEL] * 200), request(), graph)
    assert len(str(answer.to_dict())) < 60_000
