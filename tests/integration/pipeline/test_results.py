"""What a job that goes well gives back, on a real ComfyUI."""

import asyncio
import random

import numpy as np

from comfyworker.jobs import JobStatus
from support import workflows
from support.pipelines import Watch, code, colour_of, files_in, picture, pipeline_on, png, request
from support.real_comfyui import RealComfyUI


async def test_text_to_image_gives_a_picture_and_progress(comfyui: RealComfyUI) -> None:
    """A whole text-to-image graph runs on the sampler; its steps are seen, its progress never falls and ends at 1."""
    watch = Watch()
    async with pipeline_on(comfyui) as pipeline:
        result = await pipeline.run(request(workflows.text_to_image(steps=4)), on_progress=watch)
    assert code(result) == "succeeded"
    assert picture(result.artifacts[0]).size == (128, 128)
    values = [snapshot.value for snapshot in watch.snapshots]
    assert values == sorted(values)
    assert values[-1] == 1.0
    steps = [(seen.step, seen.steps) for seen in watch.snapshots if seen.current_node_class == "KSampler" and seen.step]
    assert {step for step, _ in steps} == {1, 2, 3, 4}
    assert {total for _, total in steps} == {4}
    assert watch.snapshots[-1].nodes_done == watch.snapshots[-1].nodes_total == 7


async def test_each_stage_is_timed(comfyui: RealComfyUI) -> None:
    """The result says how many seconds each stage took, and no stage took longer than the whole."""
    async with pipeline_on(comfyui) as pipeline:
        result = await pipeline.run(request(workflows.colour((1, 2, 3))))
    spent = result.timings.model_dump()
    assert all(seconds is not None and seconds >= 0 for seconds in spent.values()), spent
    assert spent["total_s"] >= max(spent["prepare_s"], spent["execute_s"], spent["collect_s"], spent["deliver_s"])
    assert set(result.node_timings_s) >= {workflows.SAVE}


async def test_a_batch_comes_back_whole(comfyui: RealComfyUI) -> None:
    """A batch of pictures is as many artifacts."""
    async with pipeline_on(comfyui) as pipeline:
        result = await pipeline.run(request(workflows.noise(batch_size=5)))
    assert [picture(artifact).size for artifact in result.artifacts] == [(64, 64)] * 5
    assert len({artifact.data for artifact in result.artifacts}) == 5


async def test_jobs_at_once_keep_their_own_pixels(comfyui: RealComfyUI) -> None:
    """Overlapping jobs, equal ones among them, on the same file names: each answer holds its own job's pixels."""
    colours = [(index * 9 % 256, index * 5 % 256, index * 3 % 256) for index in range(12)] * 3
    random.Random(7).shuffle(colours)
    graphs = []
    for colour in colours:
        graph = workflows.colour(colour)
        graph[workflows.SAVE]["inputs"]["filename_prefix"] = "same"
        graphs.append(graph)
    async with pipeline_on(comfyui) as pipeline:
        results = await asyncio.gather(*(pipeline.run(request(graph)) for graph in graphs))
    assert [colour_of(result.artifacts[0]) for result in results] == colours
    assert [len(result.artifacts) for result in results] == [1] * len(colours)


async def test_an_equal_job_runs_its_outputs_again(comfyui: RealComfyUI) -> None:
    """The second of two equal jobs gets its picture, although the first one's file is gone and ComfyUI caches nodes."""
    graph = workflows.text_to_image(steps=2)
    async with pipeline_on(comfyui) as pipeline:
        first = await pipeline.run(request(graph))
        watch = Watch()
        second = await pipeline.run(request(graph), on_progress=watch)
    assert np.array_equal(np.asarray(picture(first.artifacts[0])), np.asarray(picture(second.artifacts[0])))
    assert {seen.current_node_class for seen in watch.snapshots} <= {None, "SaveImage"}


async def test_input_pictures_of_one_name_do_not_meet(comfyui: RealComfyUI) -> None:
    """Two jobs at once that both send input.png with different pictures get their own results."""
    colours = [(255, 0, 255), (0, 255, 0)]
    async with pipeline_on(comfyui) as pipeline:
        results = await asyncio.gather(
            *(
                pipeline.run(request(workflows.invert("input.png"), files={"input.png": png(colour)}))
                for colour in colours * 4
            )
        )
    expected = [tuple(255 - part for part in colour) for colour in colours * 4]
    assert [colour_of(result.artifacts[0]) for result in results] == expected


async def test_nothing_of_a_job_stays_on_the_disk(comfyui: RealComfyUI) -> None:
    """Inputs, outputs in subfolders and temp previews are removed after delivery, empty subfolders too."""
    graph = workflows.invert("in.png")
    graph[workflows.SAVE]["inputs"]["filename_prefix"] = f"a/b/{workflows.unique_prefix()}"
    graph["20"] = workflows.node("PreviewImage", images=["2", 0])
    before = {folder: files_in(folder) for folder in (comfyui.input_dir, comfyui.output_dir, comfyui.temp_dir)}
    async with pipeline_on(comfyui) as pipeline:
        result = await pipeline.run(request(graph, files={"in.png": png((1, 2, 3))}))
    assert [artifact.subfolder for artifact in result.artifacts] == ["a/b"]
    assert {folder: files_in(folder) for folder in before} == before
    assert not (comfyui.output_dir / "a").exists()


async def test_keep_outputs_keeps_them(comfyui: RealComfyUI) -> None:
    """KEEP_OUTPUTS leaves what was delivered where ComfyUI put it."""
    graph = workflows.colour((4, 5, 6))
    prefix = graph[workflows.SAVE]["inputs"]["filename_prefix"]
    async with pipeline_on(comfyui, KEEP_OUTPUTS="true") as pipeline:
        result = await pipeline.run(request(graph))
    assert code(result) == "succeeded"
    assert [path.name for path in comfyui.output_dir.glob(f"{prefix}*")] == [f"{prefix}_00001_.png"]


async def test_previews_are_left_out_unless_they_are_all(comfyui: RealComfyUI) -> None:
    """A temp preview beside a saved picture is left out; alone it is the artifact."""
    graph = workflows.colour((7, 8, 9))
    graph["20"] = workflows.node("PreviewImage", images=["1", 0])
    only_preview = {key: node for key, node in graph.items() if key != workflows.SAVE}
    async with pipeline_on(comfyui) as pipeline:
        both, alone = await pipeline.run(request(graph)), await pipeline.run(request(only_preview))
    assert [artifact.folder_type for artifact in both.artifacts] == ["output"]
    assert [artifact.folder_type for artifact in alone.artifacts] == ["temp"]


async def test_every_kind_of_output_is_collected(comfyui: RealComfyUI) -> None:
    """Images, gifs, video, audio, 3d, latents, files in subfolders, and text all arrive."""
    report: dict[str, object] = {
        "gifs": [{"filename": "a.mp4", "content": "gif"}],
        "video": [{"filename": "b.webm", "subfolder": "clips", "content": "video"}],
        "audio": [{"filename": "c.flac", "content": "audio"}],
        "3d": [{"filename": "d.glb", "content": "mesh"}],
        "latents": [{"filename": "e.latent", "content": "latent"}],
        "files": [{"filename": "f.zip", "content": "zip"}],
        "text": ["hello"],
    }
    async with pipeline_on(comfyui) as pipeline:
        result = await pipeline.run(request(workflows.outputs(report)))
    assert code(result) == "succeeded"
    assert result.warnings == ()
    seen = {(artifact.output_key, str(artifact.kind)) for artifact in result.artifacts}
    assert seen == {
        ("gifs", "video"),
        ("video", "video"),
        ("audio", "audio"),
        ("3d", "file"),
        ("latents", "latent"),
        ("files", "file"),
        ("text", "text"),
    }
    assert next(artifact.text for artifact in result.artifacts if artifact.output_key == "text") == "hello"


async def test_without_a_shared_disk_files_go_over_http(comfyui: RealComfyUI) -> None:
    """Where ComfyUI is on another machine, inputs are uploaded and outputs are streamed from /view."""
    async with pipeline_on(comfyui, shares_disk=False) as pipeline:
        result = await pipeline.run(request(workflows.invert("x.png"), files={"x.png": png((255, 0, 9))}))
    assert colour_of(result.artifacts[0]) == (0, 255, 246)


async def test_an_input_file_that_no_node_names_is_a_warning(comfyui: RealComfyUI) -> None:
    """The job runs, and its answer says that the file was not used."""
    async with pipeline_on(comfyui) as pipeline:
        result = await pipeline.run(request(workflows.colour((1, 1, 1)), files={"lost.png": png((1, 2, 3))}))
    assert result.status is JobStatus.SUCCEEDED
    assert result.warnings == ("the input file 'lost.png' is not named by any node of the workflow",)
