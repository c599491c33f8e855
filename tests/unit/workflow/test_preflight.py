"""What the preflight finds, and what it leaves to ComfyUI."""

import copy
from typing import Any

import pytest
from hypothesis import given

from comfyworker.errors import InvalidWorkflow, MissingAsset, MissingModel, MissingNode, Problem, WorkerError
from comfyworker.jobs import Graph
from comfyworker.workflow import NodeClasses, check_workflow, raise_problems, sound_outputs
from strategies import workflows


def messages(graph: Graph, classes: NodeClasses) -> list[str]:
    """Return the message of each problem."""
    return [problem.message for problem in check_workflow(graph, classes)]


def with_classes(object_info: dict[str, Any], **more: dict[str, Any]) -> NodeClasses:
    """Return the recorded classes and some more."""
    return NodeClasses({**object_info, **more})


def custom(**inputs: Any) -> dict[str, Any]:
    """Return a class of a custom node with these required inputs and one output."""
    return {"input": {"required": inputs}, "output": ["IMAGE"], "python_module": "custom_nodes.x", "output_node": True}


def test_good_workflow_has_no_problems(graph: Graph, classes: NodeClasses) -> None:
    """What ComfyUI runs passes."""
    assert check_workflow(graph, classes) == ()


def test_problem_holds_all_facts(graph: Graph, classes: NodeClasses) -> None:
    """A problem says where it is, what came, what there is instead, and the nearest spelling."""
    graph["6"]["inputs"]["sampler_name"] = "eulr"
    [problem] = check_workflow(graph, classes)
    assert problem == Problem(
        message="node 6 (KSampler), input sampler_name: 'eulr' is not offered; did you mean 'euler'? (42 choices)",
        code="value_not_in_list",
        path="workflow.6.inputs.sampler_name",
        node_id="6",
        class_type="KSampler",
        input_name="sampler_name",
        received="eulr",
        choices=problem.choices,
        suggestion="euler",
    )
    assert (len(problem.choices), problem.choices[0]) == (10, "euler")


def test_unknown_class(graph: Graph, classes: NodeClasses) -> None:
    """A class that is not there is named with the nearest that is."""
    graph["6"]["class_type"] = "Ksampler"
    [problem] = check_workflow(graph, classes)
    assert (problem.message, problem.code, problem.suggestion, problem.choices[0]) == (
        "node 6 (Ksampler): this ComfyUI has no class 'Ksampler'; did you mean 'KSampler'?",
        "missing_node",
        "KSampler",
        "KSampler",
    )


def test_unknown_class_anywhere(graph: Graph, classes: NodeClasses) -> None:
    """ComfyUI refuses an unknown class even in a node that nothing needs."""
    graph["99"] = {"class_type": "NoSuchClass", "inputs": {}}
    assert [problem.code for problem in check_workflow(graph, classes)] == ["missing_node"]


def test_what_an_unknown_class_needs_is_checked(graph: Graph, classes: NodeClasses) -> None:
    """An unknown class may be an output: problems of what it needs are told at once."""
    graph["10"]["class_type"] = "NoSuchSave"
    graph["6"]["inputs"]["steps"] = 0
    assert [problem.code for problem in check_workflow(graph, classes)] == ["value_out_of_range", "missing_node"]


def test_missing_model(graph: Graph, classes: NodeClasses) -> None:
    """A model file that is not there is told from other values, with the nearest name."""
    graph["1"]["inputs"]["ckpt_name"] = "SD15/dreamshaper-8.ckpt"
    graph["2"]["inputs"]["lora_name"] = "nothing_like_it.safetensors"
    assert [(problem.code, problem.message) for problem in check_workflow(graph, classes)] == [
        (
            "missing_model",
            (
                "node 1 (CheckpointLoaderSimple), input ckpt_name: 'SD15/dreamshaper-8.ckpt' is not there; "
                "did you mean 'dreamshaper_8.safetensors'? (2 choices)"
            ),
        ),
        (
            "missing_model",
            (
                "node 2 (LoraLoader), input lora_name: 'nothing_like_it.safetensors' is not there; "
                "there are 14 choices: "
                "style_01.safetensors, style_02.safetensors, style_03.safetensors, style_04.safetensors, "
                "style_05.safetensors, style_06.safetensors, style_07.safetensors, style_08.safetensors, "
                "style_09.safetensors, style_10.safetensors, …"
            ),
        ),
    ]


def test_missing_model_where_there_are_none(object_info: dict[str, Any], graph: Graph) -> None:
    """A ComfyUI without any models says so."""
    bare = copy.deepcopy(object_info)
    bare["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0] = []
    assert messages(graph, NodeClasses(bare)) == [
        (
            "node 1 (CheckpointLoaderSimple), input ckpt_name: 'dreamshaper_8.safetensors' is not there; "
            "ComfyUI has no such files yet"
        )
    ]


def test_required_input(graph: Graph, classes: NodeClasses) -> None:
    """A required input that is not there is told with its type, and with a likely misspelling of it."""
    del graph["6"]["inputs"]["latent_image"]
    graph["6"]["inputs"]["CFG"] = graph["6"]["inputs"].pop("cfg")
    assert messages(graph, classes) == [
        (
            "node 6 (KSampler), input cfg: is required (FLOAT) and is not there; "
            "there is 'CFG', which its class does not know"
        ),
        "node 6 (KSampler), input latent_image: is required (LATENT) and is not there",
    ]


@pytest.mark.parametrize(
    ("link", "code", "what"),
    [
        (["99", 0], "link_to_no_node", "linked to node '99', which is not in the workflow"),
        (["6", 1], "link_to_no_output", "linked to output 1 of node 6 (KSampler), which has 0: LATENT"),
        (["6", -2], "link_to_no_output", "linked to output -2 of node 6 (KSampler), which has 0: LATENT"),
        (["6", "0"], "link_to_no_output", "linked to output '0' of node 6 (KSampler), which has 0: LATENT"),
        (["1", 0], "link_type_mismatch", "takes LATENT, but output 0 of node 1 (CheckpointLoaderSimple) gives MODEL"),
        ([6, 0], "bad_link", 'a link names its node as text: ["6", 0]'),
        (["6"], "bad_link", '["6"] is no link; a link is [node_id, slot], a list as value is {"__value__": […]}'),
        ([], "bad_link", '[] is no link; a link is [node_id, slot], a list as value is {"__value__": […]}'),
    ],
)
def test_bad_links(graph: Graph, classes: NodeClasses, link: list[Any], code: str, what: str) -> None:
    """Links that lead nowhere, to no output, or to one of another type are told."""
    graph["7"]["inputs"]["samples"] = link
    [problem] = check_workflow(graph, classes)
    assert (problem.code, problem.message) == (code, f"node 7 (VAEDecode), input samples: {what}")


@pytest.mark.parametrize(
    ("given_type", "taken", "fits"),
    [
        ("IMAGE", "IMAGE", True),
        ("IMAGE", "MASK", False),
        ("IMAGE", "*", True),
        ("*", "MASK", True),
        ("IMAGE,MASK", "MASK,LATENT", True),
        ("IMAGE,MASK", "LATENT, STRING", False),
        (["a", "b"], ["a", "b"], True),
        (["a", "b"], ["a"], False),
        (["a", "b"], "STRING", False),
        ("STRING", ["a"], False),
        ("IMAGE", "COMFY_MATCHTYPE_V3", True),
    ],
)
def test_types_of_links(given_type: Any, taken: Any, fits: bool) -> None:
    """Types fit as ComfyUI has it: the same, any, or unions with a type in common."""
    classes = NodeClasses(
        {
            "Source": {"input": {}, "output": [given_type]},
            "Sink": {"input": {"required": {"x": [taken]}}, "output": [], "output_node": True},
        }
    )
    graph = {"1": {"class_type": "Source", "inputs": {}}, "2": {"class_type": "Sink", "inputs": {"x": ["1", 0]}}}
    assert (check_workflow(graph, classes) == ()) is fits


@pytest.mark.parametrize("value", [20, "20", " 7 ", 3.9, True, {"__value__": 20}])
def test_numbers_that_comfyui_can_read(graph: Graph, classes: NodeClasses, value: object) -> None:
    """Whatever Python's int() makes a number of is one."""
    graph["6"]["inputs"]["steps"] = value
    assert check_workflow(graph, classes) == ()


@pytest.mark.parametrize("value", ["abc", "", None, {}, {"__value__": [1]}, float("nan"), float("inf")])
def test_values_that_are_no_numbers(graph: Graph, classes: NodeClasses, value: object) -> None:
    """What int() refuses is no INT."""
    graph["6"]["inputs"]["steps"] = value
    assert [problem.code for problem in check_workflow(graph, classes)] == ["invalid_value_type"]


@pytest.mark.parametrize("value", ["nan", float("nan"), "1.5"])
def test_floats_that_comfyui_can_read(graph: Graph, classes: NodeClasses, value: object) -> None:
    """Not-a-number is a FLOAT to ComfyUI, and within any bounds."""
    graph["6"]["inputs"]["cfg"] = value
    assert check_workflow(graph, classes) == ()


@pytest.mark.parametrize(("value", "shown"), [(0, "0"), ("-1", "-1"), (10**20, "100000000000000000000")])
def test_numbers_out_of_range(graph: Graph, classes: NodeClasses, value: object, shown: str) -> None:
    """A number beyond its bounds is told with them."""
    graph["6"]["inputs"]["steps"] = value
    assert messages(graph, classes) == [f"node 6 (KSampler), input steps: {shown} is outside of 1 to 10000"]


def test_no_output_node(graph: Graph, classes: NodeClasses) -> None:
    """A workflow that would save nothing is refused."""
    del graph["10"]
    assert messages(graph, classes) == [
        "the workflow has no output node, such as SaveImage or PreviewImage, so nothing would run"
    ]


def test_cycle(graph: Graph, classes: NodeClasses) -> None:
    """Nodes that wait for each other are named in their order."""
    graph["5"]["inputs"]["width"] = ["6", 0]
    assert [problem.message for problem in check_workflow(graph, classes) if problem.code == "cycle"] == [
        "node 5 (EmptyLatentImage): its inputs lead back to its own output: 5 → 6 → 5"
    ]


def test_nodes_that_nothing_needs_are_not_checked(graph: Graph, classes: NodeClasses) -> None:
    """ComfyUI never looks at a node that no output needs, so its faults are none."""
    graph["20"] = {"class_type": "KSampler", "inputs": {"steps": 0, "model": ["99", 0]}}
    assert check_workflow(graph, classes) == ()


def test_inputs_that_the_class_does_not_declare(graph: Graph, classes: NodeClasses) -> None:
    """ComfyUI ignores values it does not know, but cannot run with a link to nowhere."""
    graph["6"]["inputs"]["extra"] = 3
    assert check_workflow(graph, classes) == ()
    graph["6"]["inputs"]["extra"] = ["99", 0]
    assert [problem.code for problem in check_workflow(graph, classes)] == ["link_to_no_node"]


@pytest.mark.parametrize(
    ("class_type", "inputs"),
    [("LoadImage", {"image": "just_uploaded.png"}), ("LoadImageOutput", {"image": "of yesterday.png [output]"})],
)
def test_uploads_are_left_to_comfyui(classes: NodeClasses, class_type: str, inputs: dict[str, Any]) -> None:
    """A file may be newer than the list: only ComfyUI can say whether it is there."""
    graph = {
        "1": {"class_type": class_type, "inputs": inputs},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    assert check_workflow(graph, classes) == ()


def test_upload_must_be_a_name(graph: Graph, classes: NodeClasses) -> None:
    """A number is no file name."""
    graph["8"]["inputs"]["image"] = 7
    assert messages(graph, classes) == ["node 8 (LoadImage), input image: 7 cannot be read as a file name"]


def test_title_is_shown_where_it_says_more(graph: Graph, classes: NodeClasses) -> None:
    """A person's own title is in the label; ComfyUI's name for the class is not repeated."""
    del graph["3"]["inputs"]["text"], graph["8"]["inputs"]["image"]
    assert sorted(messages(graph, classes)) == [
        "node 3 (CLIPTextEncode, titled 'Positive'), input text: is required (STRING) and is not there",
        "node 8 (LoadImage), input image: is required (COMBO) and is not there",
    ]


def test_odd_values_of_custom_nodes_go_to_comfyui(object_info: dict[str, Any]) -> None:
    """A custom node may take more than it lists, so its values alone refuse nothing, but are told beside what does."""
    classes = with_classes(object_info, Mine=custom(mode=[["a", "b"], {}], size=["INT", {"min": 1}]))
    graph: Graph = {"1": {"class_type": "Mine", "inputs": {"mode": "c", "size": 0}}}
    assert check_workflow(graph, classes) == ()
    graph["2"] = {"class_type": "NoSuchClass", "inputs": {}}
    assert [problem.code for problem in check_workflow(graph, classes)] == [
        "value_not_in_list",
        "value_out_of_range",
        "missing_node",
    ]


def test_inputs_that_grow_need_not_be_there(object_info: dict[str, Any]) -> None:
    """A workflow holds `images.0`, … for an input that grows."""
    classes = with_classes(object_info, Mine=custom(images=["COMFY_AUTOGROW_V3", {}]))
    assert check_workflow({"1": {"class_type": "Mine", "inputs": {"images.0": 1}}}, classes) == ()


def test_long_values_are_cut(graph: Graph, classes: NodeClasses) -> None:
    """Neither a message nor what was received grows with what was sent."""
    graph["6"]["inputs"]["sampler_name"] = "x" * 100_000
    graph["6"]["inputs"]["steps"] = {"deep": ["y" * 100_000]}
    problems = check_workflow(graph, classes)
    assert [(len(problem.message) < 600, len(str(problem.received)) <= 200) for problem in problems] == [
        (True, True)
    ] * 2


def test_all_problems_at_once(graph: Graph, classes: NodeClasses) -> None:
    """Faults in several nodes, and in several inputs of one node, are all told."""
    graph["1"]["inputs"]["ckpt_name"] = "x.safetensors"
    graph["6"]["inputs"].update(steps=0, scheduler="simpel", cfg="much")
    graph["7"]["inputs"]["vae"] = ["1", 0]
    assert sorted(problem.path or "" for problem in check_workflow(graph, classes)) == [
        "workflow.1.inputs.ckpt_name",
        "workflow.6.inputs.cfg",
        "workflow.6.inputs.scheduler",
        "workflow.6.inputs.steps",
        "workflow.7.inputs.vae",
    ]


def test_sound_outputs(graph: Graph, classes: NodeClasses) -> None:
    """ComfyUI runs the outputs that no fault reaches."""
    graph["11"] = {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}
    graph["6"]["inputs"]["steps"] = 0
    assert sound_outputs(graph, classes, check_workflow(graph, classes)) == {"11"}
    graph["12"] = {"class_type": "NoSuchClass", "inputs": {}}
    assert sound_outputs(graph, classes, check_workflow(graph, classes)) == frozenset()


@pytest.mark.parametrize(
    ("codes", "error"),
    [
        (["missing_model", "missing_model"], MissingModel),
        (["missing_node"], MissingNode),
        (["missing_asset"], MissingAsset),
        (["missing_model", "missing_node"], InvalidWorkflow),
        (["value_out_of_range"], InvalidWorkflow),
    ],
)
def test_error_by_sort_of_problems(codes: list[str], error: type[WorkerError]) -> None:
    """Problems of one sort raise that sort's error, others the general one."""
    problems = [Problem(message=f"p{index}", code=code) for index, code in enumerate(codes)]
    with pytest.raises(WorkerError) as caught:
        raise_problems(problems)
    assert (type(caught.value), caught.value.problems) == (error, tuple(problems))


def test_message_counts_problems() -> None:
    """One problem is its own message; of several, the first are spelled out after their number."""
    with pytest.raises(InvalidWorkflow, match=r"^4 problems: p0; p1; p2; …$"):
        raise_problems([Problem(message=f"p{index}") for index in range(4)])
    with pytest.raises(InvalidWorkflow, match=r"^p0$"):
        raise_problems([Problem(message="p0")])


def test_no_problems_raise_nothing() -> None:
    """Nothing wrong, nothing raised."""
    raise_problems(())


@given(workflows())
def test_any_workflow_is_checked_and_left_alone(graph: Graph) -> None:
    """No workflow of the right shape makes the check fail, or is changed by it."""
    kept = copy.deepcopy(graph)
    classes = NodeClasses(
        {
            "SaveImage": {
                "input": {"required": {"images": ["IMAGE"], "list": [["a"]]}},
                "output_node": True,
                "output": [],
            },
            "KSampler": {"input": {"required": {"seed": ["INT", {"min": 0}], "steps": ["FLOAT"]}}, "output": ["IMAGE"]},
        }
    )
    problems = check_workflow(graph, classes)
    assert all(problem.message and problem.to_dict() for problem in problems)
    assert graph == kept


def test_without_an_output_all_nodes_are_checked(classes: NodeClasses) -> None:
    """A workflow that has no output node yet is told what else is wrong with it, too."""
    graph: Graph = {"3": {"class_type": "VAEDecode", "inputs": {"samples": ["77", 0]}}}
    found = [(problem.node_id, problem.code) for problem in check_workflow(graph, classes)]
    assert found == [(None, "no_outputs"), ("3", "link_to_no_node"), ("3", "required_input_missing")]
