"""Outputs: files and texts out of what ComfyUI reports for each node."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyworker.comfyui.outputs import OutputFile, Outputs, OutputText, parse_outputs, select_outputs


def entry(filename: str, folder_type: str = "output", subfolder: str = "", **more: object) -> dict[str, object]:
    """Return a file entry as ComfyUI writes it."""
    return {"filename": filename, "subfolder": subfolder, "type": folder_type, **more}


def file(filename: str, node_id: str, key: str, **more: Any) -> OutputFile:
    """Return the file that is expected for an entry."""
    place = {"filename": filename, "subfolder": "", "folder_type": "output"} | more
    return OutputFile(node_id=node_id, output_key=key, **place)


def test_a_batch_of_pictures_keeps_its_order() -> None:
    """SaveImage reports one entry a picture, with its subfolder."""
    outputs = parse_outputs({"9": {"images": [entry("a.png", subfolder="x/y"), entry("b.png")]}})
    assert outputs == Outputs(
        files=(file("a.png", "9", "images", subfolder="x/y"), file("b.png", "9", "images")),
    )


@pytest.mark.parametrize("key", ["images", "gifs", "video", "videos", "audio", "3d", "latents", "files", "unheard_of"])
def test_files_are_found_under_every_key(key: str) -> None:
    """No key is needed to be known: what has a filename is a file."""
    assert parse_outputs({"1": {key: [entry("a.bin")]}}) == Outputs(files=(file("a.bin", "1", key),))


def test_a_flag_beside_the_files_is_no_output() -> None:
    """SaveVideo of 0.3.75 reports its video under `images`, with `animated: [true]`."""
    outputs = parse_outputs({"3": {"images": [entry("a.mp4")], "animated": [True]}})
    assert outputs == Outputs(files=(file("a.mp4", "3", "images"),))


def test_video_helper_suite_tells_its_format() -> None:
    """VHS_VideoCombine adds `format`; its other additions are no outputs of their own."""
    reported = entry(
        "v_00001.mp4",
        format="video/h264-mp4",
        frame_rate=8.0,
        workflow="v_00001.png",
        fullpath="/comfyui/output/v_00001.mp4",
    )
    outputs = parse_outputs({"7": {"gifs": [reported]}})
    assert outputs == Outputs(files=(file("v_00001.mp4", "7", "gifs", format_hint="video/h264-mp4"),))


@pytest.mark.parametrize("value", [["a cat"], ("a cat",), "a cat"])
def test_text_comes_in_a_list_or_bare(value: object) -> None:
    """PreviewAny reports a list, some custom nodes a bare string."""
    outputs = parse_outputs({"5": {"text": value}})
    assert outputs == Outputs(texts=(OutputText(text="a cat", node_id="5", output_key="text"),))


def test_a_previewed_model_is_a_file_of_the_output_folder() -> None:
    """Preview3D reports a path and a camera; the model is what was made."""
    outputs = parse_outputs({"4": {"result": ["mesh/a_00001_.glb", {"position": {}}, "temp/bg_1.png"]}})
    assert outputs == Outputs(files=(file("a_00001_.glb", "4", "result", subfolder="mesh", is_preview=True),))


def test_a_model_that_is_saved_and_previewed_counts_as_saved() -> None:
    """The preview may be reported first; the file is still the saved one."""
    saved = {"3d": [entry("a.glb", subfolder="mesh")]}
    outputs = parse_outputs({"4": {"result": ["mesh/a.glb", None]}, "6": saved})
    assert outputs == Outputs(files=(file("a.glb", "6", "3d", subfolder="mesh"),))


@pytest.mark.parametrize("path", ["/abs/a.glb", "../a.glb", "C:\\a.glb"])
def test_a_previewed_model_outside_of_the_folders_is_a_warning(path: str) -> None:
    """A path that leads elsewhere is not followed, and not dropped in silence."""
    outputs = parse_outputs({"4": {"result": [path, None]}})
    strange = "a 3D model outside of the output folder"
    assert outputs == Outputs(
        warnings=(f"node 4, output 'result': an entry of an unknown shape ({strange}) not delivered",),
    )


def test_an_echo_of_an_input_is_no_output() -> None:
    """Entries of type input show what went in."""
    assert parse_outputs({"1": {"images": [entry("in.png", "input")]}}) == Outputs()


def test_a_file_reported_twice_counts_once() -> None:
    """The first report wins; the same name in another folder is another file."""
    outputs = parse_outputs(
        {"1": {"images": [entry("a.png"), entry("a.png", "temp")]}, "2": {"gifs": [entry("a.png"), entry("b.gif")]}},
    )
    assert outputs == Outputs(
        files=(
            file("a.png", "1", "images"),
            file("a.png", "1", "images", folder_type="temp"),
            file("b.gif", "2", "gifs"),
        ),
    )


def test_an_unknown_shape_becomes_one_warning_for_the_node_and_key() -> None:
    """Nothing is dropped in silence: the warning names the node, the key and what was there."""
    strange = "a file without a name, a file in an unknown folder"
    outputs = parse_outputs(
        {
            "1": {"points": [[1, 2], 3, {"x": 1}, "said"], "dims": 512},
            "2": None,
            "3": ["a"],
            "4": {"images": [{"filename": ""}, {"filename": 3}, entry("a.png", "models")]},
        },
    )
    assert outputs == Outputs(
        texts=(OutputText(text="said", node_id="1", output_key="points"),),
        warnings=(
            "node 1, output 'points': 3 entries of an unknown shape (a list, a number, an object) not delivered",
            "node 1, output 'dims': an entry of an unknown shape (a number) not delivered",
            "node 3: reported a list in place of its outputs, which was not delivered",
            f"node 4, output 'images': 3 entries of an unknown shape ({strange}) not delivered",
        ),
    )


def test_missing_subfolder_and_type_take_comfyuis_defaults() -> None:
    """`/view` takes a missing type as output and a missing subfolder as none."""
    assert parse_outputs({"1": {"images": [{"filename": "a.png"}]}}) == Outputs(files=(file("a.png", "1", "images"),))


def test_previews_are_left_out_beside_saved_files() -> None:
    """A temp file is a preview; text always stays."""
    outputs = parse_outputs(
        {"1": {"images": [entry("p.png", "temp")], "text": ["t"]}, "2": {"images": [entry("s.png")]}}
    )
    assert select_outputs(outputs) == Outputs(
        files=(file("s.png", "2", "images"),),
        texts=(OutputText(text="t", node_id="1", output_key="text"),),
    )


def test_previews_are_delivered_if_they_are_all_there_is() -> None:
    """A workflow that only previews still answers with its pictures."""
    outputs = parse_outputs({"1": {"images": [entry("p.png", "temp")]}})
    assert select_outputs(outputs) == outputs


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.just("filename"), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4))
def test_any_report_is_read(reported: dict[str, Any]) -> None:
    """Nodes report what they like; reading it never fails, and selecting adds nothing."""
    outputs = parse_outputs(reported)
    assert set(select_outputs(outputs).files) <= set(outputs.files)
