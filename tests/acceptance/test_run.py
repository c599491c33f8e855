"""`comfyworker run` as its user calls it, on a real ComfyUI."""

import json
from pathlib import Path

import numpy as np
from PIL import AvifImagePlugin, Image, WebPImagePlugin

from comfyworker.jobs import Graph
from support import workflows
from support.command import Done, call, call_on_terminal, environment
from support.pipelines import files_in, png
from support.real_comfyui import RealComfyUI

PLUGINS = (AvifImagePlugin, WebPImagePlugin)  # Pillow finds only formats that were imported
ESCAPE = "\x1b["


def run(comfyui: RealComfyUI, cwd: Path, graph: object, *args: str) -> Done:
    """Write a workflow into `cwd` and run it there."""
    (cwd / "workflow.json").write_text(json.dumps(graph), encoding="utf-8")
    return call("run", "workflow.json", *args, environ=environment(comfyui), cwd=cwd)


def titled(graph: Graph) -> Graph:
    """Return a graph of one colour whose saved files are called `picture`."""
    graph[workflows.SAVE]["inputs"]["filename_prefix"] = "picture"
    return graph


def test_it_saves_the_pictures_and_says_where(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """The pictures are in out/, stdout names them with size and stage times, stderr shows the progress."""
    done = run(comfyui, tmp_path, titled(workflows.colour((9, 8, 7), batch_size=2)))
    assert done.code == 0, done.err
    assert files_in(tmp_path / "out") == ["picture_00001_.png", "picture_00002_.png"]
    assert Image.open(tmp_path / "out/picture_00001_.png").getpixel((0, 0)) == (9, 8, 7)
    assert "out/picture_00001_.png" in done.out
    assert "execute " in done.out
    assert "executing" in done.err
    assert ESCAPE not in done.out + done.err


def test_a_second_run_overwrites_nothing(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """The second run's picture gets a name of its own beside the first one's."""
    for colour in ((1, 1, 1), (2, 2, 2)):
        assert run(comfyui, tmp_path, titled(workflows.colour(colour)), "-o", "pictures").code == 0
    assert files_in(tmp_path / "pictures") == ["picture_00001_-2.png", "picture_00001_.png"]
    assert Image.open(tmp_path / "pictures/picture_00001_.png").getpixel((0, 0)) == (1, 1, 1)


def test_brackets_in_a_name_are_shown_as_they_are(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """No name is taken for a mark of colour, and none ends the command."""
    graph = workflows.colour((1, 2, 3))
    graph[workflows.SAVE]["inputs"]["filename_prefix"] = "[v1]a[b]c"
    done = run(comfyui, tmp_path, graph, "-o", "[/red]")
    assert done.code == 0, done.err
    assert "[/red]/[v1]a[b]c_00001_.png" in done.out


def test_images_and_changed_inputs(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """--image brings a picture under the name that the workflow uses; --set changes an input, by id or by title."""
    (tmp_path / "mine.png").write_bytes(png((255, 0, 0), 40))
    graph = workflows.invert("input.png")
    args = ("--image", "input.png=mine.png", "--set", "9.filename_prefix=by id", "--json")
    done = run(comfyui, tmp_path, graph, *args)
    assert done.code == 0, done.err
    path = Path(done.json()["artifacts"][0]["path"])
    assert path.name == "by id_00001_.png"
    assert Image.open(tmp_path / path).getpixel((0, 0)) == (0, 255, 255)
    by_title = run(comfyui, tmp_path, workflows.colour((1, 2, 3)), "--set", "Save.filename_prefix=by title", "--json")
    assert by_title.json()["artifacts"][0]["name"] == "by title_00001_.png"


def test_json_is_all_that_is_on_stdout(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """--json prints one document with artifacts and timings, and no file's bytes."""
    done = run(comfyui, tmp_path, titled(workflows.colour((1, 2, 3))), "--json")
    answer = done.json()
    assert (answer["status"], [artifact["path"] for artifact in answer["artifacts"]]) == (
        "succeeded",
        ["out/picture_00001_.png"],
    )
    assert set(answer["timings"]) == {"prepare_s", "wait_s", "execute_s", "collect_s", "deliver_s", "total_s"}
    assert "data" not in answer["artifacts"][0]
    assert done.err == ""


def test_a_failed_job_with_json(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A failure is a document too, and the exit code is 1."""
    done = run(comfyui, tmp_path, workflows.failing(), "--json")
    assert (done.code, done.json()["status"], done.json()["error"]["code"]) == (1, "failed", "node_execution_error")


def test_a_wrong_workflow_is_explained(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Every problem stands on a line of its own with the nearest spelling; no traceback; exit code 1."""
    graph = workflows.text_to_image()
    graph["5"]["inputs"]["sampler_name"] = "eulr"
    graph["1"]["inputs"]["ckpt_name"] = "tiny.safetensors"
    done = run(comfyui, tmp_path, graph)
    assert done.code == 1
    assert "[invalid_workflow] 2 problems" in done.err
    lines = [line for line in done.err.splitlines() if line.startswith("  • ")]
    assert len(lines) == 2
    assert "'euler'" in done.err
    assert "'tiny-sd3.safetensors'" in done.err
    assert "Traceback" not in done.err


def test_wrong_commands_say_what_to_do(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A file that is not there, one that is no JSON, an unknown node in --set: exit code 2 and one clear line."""
    missing = call("run", "nothing.json", environ=environment(comfyui), cwd=tmp_path)
    assert (missing.code, "nothing.json: no such file or directory" in missing.err) == (2, True)
    (tmp_path / "bad.json").write_text('{"1": }', encoding="utf-8")
    bad = call("run", "bad.json", environ=environment(comfyui), cwd=tmp_path)
    assert (bad.code, "line 1, column 7" in bad.err) == (2, True), bad.err
    unknown = run(comfyui, tmp_path, workflows.colour((1, 2, 3)), "--set", "77.text=x")
    assert (unknown.code, "77" in unknown.err) == (2, True)


def test_on_a_terminal_there_is_a_bar_in_colour(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A person at a terminal sees a live bar with the node and its steps, which is gone at the end."""
    (tmp_path / "workflow.json").write_text(
        json.dumps(titled(workflows.wait(steps=20, seconds_per_step=0.05))), encoding="utf-8"
    )
    code, screen = call_on_terminal("run", "workflow.json", environ=environment(comfyui), cwd=tmp_path)
    assert code == 0
    assert ESCAPE in screen
    assert "TestWait" in screen
    assert "step" in screen
    assert "out/picture_00001_.png" in screen.replace("\r\n", "")


def test_no_comfyui_at_all(tmp_path: Path) -> None:
    """Where there is no ComfyUI, the command says how to get one; exit code 1."""
    (tmp_path / "workflow.json").write_text(json.dumps(workflows.colour((1, 2, 3))), encoding="utf-8")
    done = call("run", "workflow.json", environ=environment(COMFYUI_PATH=str(tmp_path)), cwd=tmp_path)
    assert done.code == 1
    assert "[comfyui_not_found]" in done.err
    assert "COMFYUI_PATH" in done.err


def test_it_offers_to_make_a_comfyui(tmp_path: Path) -> None:
    """A person at a terminal who has no ComfyUI is asked; who says no gets the ways to have one."""
    (tmp_path / "workflow.json").write_text(json.dumps(workflows.colour((1, 2, 3))), encoding="utf-8")
    code, screen = call_on_terminal("run", "workflow.json", environ=environment(), cwd=tmp_path, typed=b"n\n")
    assert code == 1
    assert "There is no ComfyUI here. Make one in workspace/ComfyUI?" in screen
    assert "comfyworker comfyui install" in screen
    assert not (tmp_path / "workspace").exists()


def test_bad_settings_are_all_named(tmp_path: Path) -> None:
    """Every setting that does not fit is named at once, before anything is started."""
    environ = environment(COMFYUI_PORT="eighty", JOB_TIMEOUT_S="-1")
    done = call("run", "workflow.json", environ=environ, cwd=tmp_path)
    assert done.code == 1
    assert "COMFYUI_PORT" in done.err
    assert "JOB_TIMEOUT_S" in done.err


def test_pictures_in_another_format(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """--format and --quality make the pictures anew, with the workflow where ComfyUI looks for it; jpg is jpeg."""
    for format_, name in (
        ("webp", "picture_00001_.webp"),
        ("avif", "picture_00001_.avif"),
        ("jpg", "picture_00001_.jpg"),
    ):
        out = tmp_path / format_
        args = ("--format", format_, "--quality", "90", "-o", format_, "--json")
        done = run(comfyui, tmp_path, titled(workflows.colour((200, 100, 50))), *args)
        assert done.code == 0, done.err
        [artifact] = done.json()["artifacts"]
        media = {"jpg": "jpeg"}.get(format_, format_)
        assert (artifact["name"], artifact["content_type"]) == (name, f"image/{media}")
        assert (files_in(out), artifact["size_bytes"]) == ([name], (out / name).stat().st_size)
        picture = Image.open(out / name)
        assert picture.format == media.upper()
        assert np.abs(np.asarray(picture, dtype=float) - (200, 100, 50)).max() < 6
        prompt = str(picture.getexif()[0x0110])
        assert json.loads(prompt.removeprefix("prompt:"))[workflows.SAVE]["class_type"] == "SaveImage"


def test_stripped_pictures(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """--strip-metadata leaves nothing of the workflow in a picture, whose pixels stay; --keep-metadata is the other."""
    graph = titled(workflows.colour((200, 100, 50)))
    for option, is_there in (("--strip-metadata", False), ("--keep-metadata", True)):
        (tmp_path / "workflow.json").write_text(json.dumps(graph), encoding="utf-8")
        environ = environment(comfyui, STRIP_METADATA="true")
        done = call("run", "workflow.json", option, "-o", option, environ=environ, cwd=tmp_path)
        assert done.code == 0, done.err
        content = (tmp_path / option / "picture_00001_.png").read_bytes()
        assert (b"SaveImage" in content) is is_there
        assert Image.open(tmp_path / option / "picture_00001_.png").getpixel((0, 0)) == (200, 100, 50)


def test_what_stays_as_it_is_is_told(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A format that a picture cannot be made into is a warning, and the picture is there as the workflow made it."""
    graph = titled(workflows.colour((9, 8, 7), batch_size=2))
    graph[workflows.SAVE]["class_type"] = "SaveAnimatedWEBP"
    graph[workflows.SAVE]["inputs"] |= {"fps": 6.0, "lossless": False, "quality": 80, "method": "default"}
    graph["2"] = workflows.node("ImageInvert", image=graph[workflows.SAVE]["inputs"]["images"])
    graph["3"] = workflows.node("ImageBatch", image1=["2", 0], image2=graph[workflows.SAVE]["inputs"]["images"])
    graph[workflows.SAVE]["inputs"]["images"] = ["3", 0]
    done = run(comfyui, tmp_path, graph, "--format", "jpeg")
    assert done.code == 0, done.err
    assert files_in(tmp_path / "out") == ["picture_00001_.webp"]
    assert "warning: picture_00001_.webp was not made into jpeg: it is more than a still picture" in done.out


def test_a_format_that_there_is_not(tmp_path: Path) -> None:
    """An unknown format or quality is told at once, with what there is."""
    (tmp_path / "workflow.json").write_text("{}")
    for args, said in ((("--format", "heic"), "png, jpeg, webp, avif"), (("--quality", "101"), "100")):
        done = call("run", "workflow.json", *args, environ=environment(), cwd=tmp_path)
        assert (done.code, said in done.err) == (2, True)
