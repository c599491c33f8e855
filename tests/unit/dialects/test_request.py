"""The request, all shapes in one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyworker.dialects.request import parse_request, wanted_id
from comfyworker.errors import InvalidRequest, InvalidWorkflow, WorkerError
from comfyworker.jobs import JobRequest, Override, Shortcuts
from strategies import json_values, workflows

WORKFLOW = {"9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}}}
GUI = {"nodes": [{"id": 1, "type": "SaveImage"}], "links": [], "version": 0.4}


def parse(body: object) -> JobRequest:
    """Parse with a fixed new id."""
    return parse_request(body, new_id=lambda: "new")


def parse_input(**given: Any) -> JobRequest:
    """Parse a request whose input has a workflow and these keys."""
    return parse({"input": {"workflow": WORKFLOW, **given}})


def refused(**given: Any) -> list[tuple[str | None, str]]:
    """Return path and message of each problem of a request whose input has a workflow and these keys."""
    with pytest.raises(InvalidRequest) as caught:
        parse_input(**given)
    return [(problem.path, problem.message) for problem in caught.value.problems]


def test_a_modifier_instead_of_a_workflow() -> None:
    """With its parameters, and the empty workflow_json that old clients send beside it."""
    modifications = {"prompt": "a cat", "seed": "__RANDOM_INT__", "steps": 20}
    blanks: list[dict[str, Any]] = [{}, {"workflow_json": {}}, {"workflow_json": None}, {"workflow": {}}]
    for empty in blanks:
        job = parse({"input": {"modifier": "Text2Image", "modifications": modifications, **empty}})
        assert job == JobRequest(id="new", modifier="Text2Image", modifications=modifications)


def test_raw_workflow_takes_a_workflow_beside_it() -> None:
    """Its parameters are set on that one."""
    job = parse({"input": {"modifier": "RawWorkflow", "modifications": {"steps": 2}, "workflow_json": WORKFLOW}})
    assert job == JobRequest(id="new", workflow=WORKFLOW, modifier="RawWorkflow", modifications={"steps": 2})


@pytest.mark.parametrize(
    ("given", "path", "message"),
    [
        (
            {"modifier": "Text2Image", "workflow_json": WORKFLOW},
            "modifier",
            "modifier and workflow_json exclude each other: send one of them",
        ),
        (
            {"modifier": "Text2Image", "workflow": WORKFLOW},
            "modifier",
            "modifier and workflow exclude each other: send one of them",
        ),
        (
            {"workflow": WORKFLOW, "workflow_json": WORKFLOW},
            "workflow",
            "workflow and workflow_json exclude each other: send one of them",
        ),
        ({"modifications": {"steps": 2}}, "modifications", "modifications need a modifier: name it in modifier"),
        (
            {"workflow": WORKFLOW, "modifications": {"steps": 2}},
            "modifications",
            "modifications need a modifier: name it in modifier",
        ),
        (
            {"modifier": "", "workflow_json": {}},
            "workflow",
            "input has no workflow: send workflow, workflow_json, or modifier with modifications",
        ),
        ({"modifier": 3}, "modifier", "modifier must be text, it is a number"),
        ({"modifier": "A", "modifications": []}, "modifications", "modifications must be an object, it is a list"),
    ],
)
def test_exactly_one_thing_says_what_runs(given: dict[str, Any], path: str, message: str) -> None:
    """Two are refused, and none; the problem names the key."""
    with pytest.raises(InvalidRequest) as caught:
        parse({"input": given})
    assert [(problem.path, problem.message) for problem in caught.value.problems] == [(path, message)]


def test_empty_modifications_need_no_modifier() -> None:
    """Clients send all keys, filled or not."""
    assert parse_input(modifier="", modifications={}) == parse_input()


def test_a_workflow_in_gui_format_is_handed_on() -> None:
    """Only with ComfyUI's classes at hand can it be converted; JSON text does as well."""
    expected = JobRequest(id="new", gui_workflow=GUI)
    assert [parse({"input": {"workflow": given}}) for given in (GUI, json.dumps(GUI))] == [expected, expected]


def test_a_wrong_workflow_json_is_refused_by_that_name() -> None:
    """The path is the one that was sent."""
    with pytest.raises(InvalidWorkflow) as caught:
        parse({"input": {"workflow_json": {"1": {}}}})
    assert [problem.path for problem in caught.value.problems] == ["workflow_json.1.class_type"]


def test_overrides_are_read() -> None:
    """A node by id, which may be a number, or by title; any JSON as the value, null included."""
    job = parse_input(
        overrides=[
            {"node_id": "6", "field": "inputs.text", "value": "new prompt"},
            {"node_id": 3, "field": "steps", "value": None},
            {"title": "Main", "field": "model", "value": ["4", 0]},
        ]
    )
    assert job.overrides == (
        Override(node_id="6", field="inputs.text", value="new prompt"),
        Override(node_id="3", field="steps", value=None),
        Override(title="Main", field="model", value=["4", 0]),
    )


@pytest.mark.parametrize(
    ("overrides", "problems"),
    [
        ({"6": "x"}, [("overrides", "overrides must be a list, it is an object")]),
        (["x"], [("overrides[0]", "overrides[0] must be an object, it is text")]),
        (
            [{}],
            [
                ("overrides[0].field", "overrides[0].field is missing: name the input, as inputs.text or text"),
                ("overrides[0].value", "overrides[0].value is missing"),
            ],
        ),
        (
            [{"field": "text", "value": 1}],
            [("overrides[0].node_id", "overrides[0].node_id or title must be given, and only one of them")],
        ),
        (
            [{"node_id": "6", "title": "x", "field": "text", "value": 1}],
            [("overrides[0].node_id", "overrides[0].node_id or title must be given, and only one of them")],
        ),
        (
            [{"node_id": True, "field": 3, "value": 1}],
            [
                ("overrides[0].node_id", "overrides[0].node_id must be a node's id, it is true or false"),
                ("overrides[0].field", "overrides[0].field must be text, it is a number"),
            ],
        ),
    ],
)
def test_a_wrong_override_is_refused_by_its_path(overrides: object, problems: list[tuple[str, str]]) -> None:
    """All of its problems at once."""
    assert refused(overrides=overrides) == problems


def test_shortcuts_are_read() -> None:
    """Numbers as clients write them: 20.0 is whole, an id may be a number, a seed may be drawn."""
    job = parse_input(prompt="", seed="__RANDOM_INT__", seed_node_id=25, width=1024.0, height=768, size_node_id="27")
    expected = Shortcuts(prompt="", seed="__RANDOM_INT__", seed_node_id="25", width=1024, height=768, size_node_id="27")
    assert job.shortcuts == expected
    assert parse_input(seed=-1, steps=4).shortcuts == Shortcuts(seed=-1, steps=4)
    assert parse_input(prompt=None, prompt_node_id="").shortcuts is None


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("prompt", 3, "prompt must be text, it is a number"),
        ("seed", "12", "seed must be a whole number, it is text"),
        ("seed", 2**64, "seed must be a whole number of 64 bits"),
        ("width", 10.5, "width must be a whole number, it is 10.5"),
        ("height", True, "height must be a whole number, it is true or false"),
        ("size_node_id", [], "size_node_id must be a node's id, it is a list"),
        ("s3", "bucket", "s3 must be an object, it is text"),
        ("webhook", "https://hook", "webhook must be an object, it is text"),
        ("return_outputs_as_base64", "yes", "return_outputs_as_base64 must be true or false, it is text"),
        (
            "response_format",
            "url",
            "response_format must be one of worker-comfyui, urls, flux, pyworker, it is 'url'; did you mean 'urls'?",
        ),
        ("response_format", 3, "response_format must be text, it is a number"),
    ],
)
def test_a_wrong_value_is_refused_by_its_path(key: str, value: object, message: str) -> None:
    """The message says what must be there and what is."""
    assert refused(**{key: value}) == [(key, message)]


def test_a_secret_is_never_repeated() -> None:
    """Not even one in the wrong place."""
    with pytest.raises(InvalidRequest) as caught:
        parse_input(comfy_org_api_key=["sk-1"], s3="sk-2", webhook=["sk-3"])
    assert "sk-" not in json.dumps(caught.value.to_dict())


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"workflw": WORKFLOW}, "invalid_request"),
        ({"workflow": WORKFLOW, "workflw": {}, "timeout": "soon"}, "invalid_request"),
        ({"workflow": {"1": {}}, "workflw": {}}, "invalid_workflow"),
    ],
    ids=["nothing else", "a wrong value", "a wrong workflow"],
)
def test_a_refusal_names_unknown_keys_too(given: dict[str, Any], code: str) -> None:
    """A misspelled key may be why something else is wrong; its value is not told."""
    told = "key 'workflw' in input is unknown and was ignored; did you mean 'workflow'?"
    with pytest.raises(WorkerError) as caught:
        parse({"input": given})
    assert (caught.value.code, caught.value.details["warnings"]) == (code, [f"the {told}"])
    assert str(caught.value.hint).endswith(f"The {told}.")
    assert caught.value.problems != ()


def test_a_refusal_without_unknown_keys_is_as_it_was() -> None:
    """Nothing is told of what was not noticed."""
    with pytest.raises(WorkerError) as caught:
        parse({"input": {}})
    assert (caught.value.details, caught.value.hint) == ({}, None)


def test_unknown_keys_are_named() -> None:
    """In the input and in an override; a near miss is told the right name."""
    override = {"node_id": "6", "field": "text", "value": 1, "tilte": "x"}
    job = parse_input(promt="x", overrides=[override], return_outputs_as_base64=True)
    assert job.warnings == (
        "the key 'promt' in input is unknown and was ignored; did you mean 'prompt'?",
        "the key 'tilte' in overrides[0] is unknown and was ignored; did you mean 'title'?",
    )


def test_vasts_envelope_is_opened() -> None:
    """What Vast's clients send to the PyWorker, which forwards only the payload."""
    payload = {"input": {"workflow_json": WORKFLOW, "request_id": "mine"}, "expected_time": 46.0}
    wrapped = {"auth_data": {"reqnum": 1}, "session_id": None, "payload": payload}
    assert parse(wrapped) == parse(payload) == JobRequest(id="mine", workflow=WORKFLOW, expected_time_s=46.0)


@pytest.mark.parametrize("given", ["46", True, -1, float("nan")])
def test_a_wrong_expected_time_is_refused(given: object) -> None:
    """It is a positive number of seconds."""
    with pytest.raises(InvalidRequest, match=r"^expected_time must be a"):
        parse({"input": {"workflow": WORKFLOW}, "expected_time": given})


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"input": {"request_id": "mine"}, "id": "theirs"}, "mine"),
        ({"input": '{"request_id": "mine"}'}, "mine"),
        ({"input": {"request_id": "../../evil"}, "id": "theirs"}, "theirs"),
        ({"payload": {"input": {"request_id": "mine"}}}, "mine"),
        ({"input": "{"}, None),
        ([], None),
    ],
)
def test_a_refused_request_keeps_its_id(body: object, wanted: str | None) -> None:
    """If it is one."""
    assert wanted_id(body) == wanted


@given(
    workflow=workflows(),
    overrides=st.lists(
        st.fixed_dictionaries({"node_id": st.text(min_size=1), "field": st.text(min_size=1), "value": json_values()}),
        max_size=3,
    ),
    shortcuts=st.fixed_dictionaries(
        {"prompt": st.text()},
        optional={
            "prompt_node_id": st.text(min_size=1),
            "seed": st.integers(min_value=-1, max_value=2**64 - 1) | st.just("__RANDOM_INT__"),
            "width": st.integers(min_value=1, max_value=9999),
            "height": st.integers(min_value=1, max_value=9999),
            "steps": st.integers(min_value=1, max_value=99),
        },
    ),
    images=st.lists(st.fixed_dictionaries({"name": st.text(), "image": st.text()}), max_size=2),
    timeout=st.floats(min_value=0.001, max_value=1e6),
)
def test_no_known_field_is_lost(
    workflow: Any, overrides: list[Any], shortcuts: dict[str, Any], images: list[Any], timeout: float
) -> None:
    """What is sent is in the job, and nothing else."""
    beside = {"overrides": overrides, "images": images, "timeout": timeout, "request_id": "mine"}
    job = parse({"input": {"workflow": workflow, **shortcuts, **beside}})
    found = job.model_dump()
    assert found["workflow"] == workflow
    assert [{key: entry[key] for key in ("node_id", "field", "value")} for entry in found["overrides"]] == overrides
    assert {key: value for key, value in found["shortcuts"].items() if value is not None} == shortcuts
    assert [{"name": file["name"], "image": file["data"]} for file in found["files"]] == images
    assert (found["timeout_s"], found["id"], found["warnings"]) == (timeout, "mine", ())


@pytest.mark.parametrize(
    ("given", "path"),
    [
        pytest.param(
            {"workflow": {"1": {"class_type": "\ud800X", "inputs": {}}}}, "input.workflow.1.class_type", id="value"
        ),
        pytest.param(
            {"workflow": {"1": {"class_type": "X", "inputs": {"\udfff": 1}}}}, "input.workflow.1.inputs", id="key"
        ),
        pytest.param({"images": [{"name": "é\ud83d.png"}]}, "input.images[0].name", id="list"),
    ],
)
def test_half_a_character_is_refused(given: dict[str, Any], path: str) -> None:
    """JSON can name half of a surrogate pair, nothing can send it on; whole ones are text like any other."""
    message = f"{path} holds half of a character (a single surrogate, as \\ud83d); send the whole of it"
    for request in (given, json.dumps(given)):
        with pytest.raises(InvalidRequest) as caught:
            parse({"input": request})
        assert [(problem.path, problem.message) for problem in caught.value.problems] == [(path, message)]
    assert parse_input(comfy_org_api_key="\U0001f98a").comfy_org_api_key is not None
