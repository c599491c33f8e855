"""Models that a job lacks, fetched before it runs: from a real server into a real ComfyUI."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyworker.errors import DownloadFailed
from comfyworker.jobs import Graph, JobError, JobRequest, JobResult, ModelOffer
from comfyworker.pipeline import Pipeline
from comfyworker.provision.arrivals import Arrivals
from comfyworker.provision.config.reading import parse_config
from comfyworker.provision.entries import ModelEntry
from comfyworker.provision.place import STATE_NAME
from comfyworker.provision.records import Wish, read_models
from comfyworker.settings import load_settings
from support import workflows
from support.gui_workflows import node, workflow
from support.model_server import Model, ModelServer
from support.pipelines import Watch, code, colour_of, pipeline_on, request
from support.real_comfyui import CHECKPOINT_NAME, RealComfyUI
from support.source import REPOSITORY


def lora(size: int) -> bytes:
    """Return a whole safetensors file with one tensor of `size` bytes, which no model has."""
    tensor = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"nothing": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


EMPTY_LORA = lora(0)


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    """Return a running server of models."""
    async with ModelServer() as server:
        yield server


@pytest.fixture
def name(comfyui: RealComfyUI) -> Iterator[str]:
    """Return a model's name that nobody else has; whatever a test leaves of it is removed."""
    name = f"{workflows.unique_prefix()}.safetensors"
    yield name
    for path in (comfyui.base_dir / "models").rglob(f"*{name.removesuffix('.safetensors')}*"):
        path.unlink()


def allowed(server: ModelServer, **more: str) -> dict[str, str]:
    """Return settings with which models of a server are fetched."""
    return {
        "DOWNLOAD_MODELS": "true",
        "ALLOWED_MODEL_HOSTS": server.url,
        "ALLOW_PRIVATE_URLS": "true",
        **more,
    }


def with_lora(lora_name: str, url: str | None = None, **entry: Any) -> Graph:
    """Return text to image with a LoRA, whose node says where it is."""
    graph = workflows.text_to_image(steps=1)
    loader = workflows.node("LoraLoaderModelOnly", model=["1", 0], lora_name=lora_name, strength_model=1.0)
    if url is not None:
        loader["_meta"] = {"models": [{"name": lora_name, "url": url, "directory": "loras", **entry}]}
    graph["lora"] = loader
    graph["5"]["inputs"]["model"] = ["lora", 0]
    return graph


async def run(pipeline: Pipeline, graph: Graph, *offers: ModelOffer) -> JobResult:
    """Run a job with models that the request says where to find."""
    return await pipeline.run(request(graph).model_copy(update={"models": offers}))


async def test_a_checkpoint_comes_and_runs(
    comfyui: RealComfyUI, server: ModelServer, checkpoint: Path, name: str
) -> None:
    """The host leads to another one, which is followed; progress tells of it; a second job fetches nothing."""
    model = server.add(name, Model(await asyncio.to_thread(checkpoint.read_bytes)))
    graph = workflows.text_to_image(steps=1)
    graph["1"]["inputs"]["ckpt_name"] = name
    offer = ModelOffer(url=f"{server.url}/signed/{name}", destination="checkpoints", filename=name, sha256=model.sha256)
    watch = Watch()
    async with pipeline_on(comfyui, environ=allowed(server)) as pipeline:
        asked_for = request(graph).model_copy(update={"models": (offer,)})
        result = await pipeline.run(asked_for, on_progress=watch)
        again = await pipeline.run(asked_for)
    messages = [snapshot.message or "" for snapshot in watch.snapshots]
    assert [code(result), code(again)] == ["succeeded", "succeeded"]
    assert any(message.startswith(f"downloading {name}: ") for message in messages)
    assert f"downloading {name}: 100 %" in messages
    assert server.sent[name] <= len(model.body) + 16
    assert (comfyui.base_dir / "models/checkpoints" / name).read_bytes() == model.body
    noted = read_models(comfyui.base_dir / STATE_NAME).models[f"checkpoints/{name}"]
    assert (noted.wish, noted.receipt.sha256, noted.receipt.url) == (Wish.JOB, model.sha256, offer.url)


async def test_what_a_node_says_itself(comfyui: RealComfyUI, server: ModelServer, name: str) -> None:
    """`_meta.models` of API format, a subfolder in the model's name, and a hash."""
    model = server.add(name, Model(EMPTY_LORA))
    graph = with_lora(f"wan/{name}", f"{server.url}/files/{name}", hash=model.sha256, hash_type="SHA256")
    async with pipeline_on(comfyui, environ=allowed(server)) as pipeline:
        result = await run(pipeline, graph)
    assert code(result) == "succeeded"
    assert (comfyui.base_dir / "models/loras/wan" / name).read_bytes() == EMPTY_LORA


async def test_what_a_workflow_of_the_page_says(
    comfyui: RealComfyUI, server: ModelServer, checkpoint: Path, name: str
) -> None:
    """`properties.models` of GUI format."""
    server.add(name, Model(await asyncio.to_thread(checkpoint.read_bytes)))
    entry = {"name": name, "url": f"{server.url}/files/{name}", "directory": "checkpoints"}
    outputs = [{"name": kind, "type": kind} for kind in ("MODEL", "CLIP", "VAE")]
    saved = workflow(
        node(1, "CheckpointLoaderSimple", widgets_values=[name], outputs=outputs, properties={"models": [entry]}),
        node(2, "EmptySD3LatentImage", widgets_values=[64, 64, 1]),
        node(3, "VAEDecode", inputs={"samples": ("LATENT", 1), "vae": ("VAE", 2)}),
        node(4, "SaveImage", inputs={"images": ("IMAGE", 3)}, widgets_values=[workflows.unique_prefix()]),
        links=[[1, 2, 0, 3, 0, "LATENT"], [2, 1, 2, 3, 1, "VAE"], [3, 3, 0, 4, 0, "IMAGE"]],
    )
    async with pipeline_on(comfyui, environ=allowed(server)) as pipeline:
        result = await pipeline.run(JobRequest(id="gui", gui_workflow=saved, timeout_s=60))
    assert code(result) == "succeeded", result.error


@pytest.mark.parametrize(
    ("settings", "ending", "said"),
    [
        ({"DOWNLOAD_MODELS": "false"}, "", "DOWNLOAD_MODELS is off"),
        ({"ALLOWED_MODEL_HOSTS": "huggingface.co,*.example.org"}, "", "is none of ALLOWED_MODEL_HOSTS"),
        ({"ALLOWED_MODEL_HOSTS": "127.0.0.1"}, "", "is none of ALLOWED_MODEL_HOSTS"),
        ({}, ".ckpt", "files with .ckpt can hold programs (ALLOWED_MODEL_ENDINGS)"),
    ],
)
async def test_what_is_not_allowed_is_said(
    comfyui: RealComfyUI, server: ModelServer, name: str, settings: dict[str, str], ending: str, said: str
) -> None:
    """The refusal is that of a missing model, with the reason and the lines for config.yml; nobody was asked."""
    server.add(name, Model(EMPTY_LORA))
    url = f"{server.url}/files/{name}?token=5ecre7"
    async with pipeline_on(comfyui, environ={**allowed(server), **settings}) as pipeline:
        result = await run(pipeline, with_lora(name + ending, url))
    assert result.error is not None
    missing = result.error.details["missing_models"]
    assert (result.error.code, server.asked) == ("missing_model", [])
    assert isinstance(missing, list)
    assert [said in str(model) for model in missing] == [True]
    assert said in str(result.error.hint)
    (model,) = parse_config(str(result.error.details["config_yml"])).models
    assert (model.url, model.destination, model.filename) == (url.partition("?")[0], "loras", name + ending)
    assert "5ecre7" not in result.model_dump_json()


async def test_a_folder_on_another_machine(comfyui: RealComfyUI, server: ModelServer, name: str) -> None:
    """Nothing can be put into the models folder of a ComfyUI whose disk is not ours."""
    async with pipeline_on(comfyui, shares_disk=False, environ=allowed(server)) as pipeline:
        result = await run(pipeline, with_lora(name, f"{server.url}/files/{name}"))
    assert result.error is not None
    assert (result.error.code, server.asked) == ("missing_model", [])
    assert "ComfyUI's models folder is not on this worker's disk" in str(result.error.hint)


async def test_a_private_address_is_not_asked(comfyui: RealComfyUI, server: ModelServer, name: str) -> None:
    """An allowed host that leads into a private network is not fetched from."""
    settings = allowed(server, ALLOW_PRIVATE_URLS="false")
    async with pipeline_on(comfyui, environ=settings) as pipeline:
        result = await run(pipeline, with_lora(name, f"{server.url}/files/{name}"))
    assert (code(result), server.asked) == ("download_failed", [])
    assert result.error is not None
    assert "leads to a loopback address" in result.error.message


async def test_other_faults_come_first(comfyui: RealComfyUI, server: ModelServer, name: str) -> None:
    """A workflow that would be refused all the same is refused before anything is fetched."""
    graph = with_lora(name, f"{server.url}/files/{name}")
    graph["5"]["inputs"]["steps"] = -1
    async with pipeline_on(comfyui, environ=allowed(server)) as pipeline:
        result = await run(pipeline, graph)
    assert (code(result), server.asked) == ("invalid_workflow", [])
    assert result.error is not None
    assert "config_yml" in result.error.details


async def test_a_wrong_hash(comfyui: RealComfyUI, server: ModelServer, name: str) -> None:
    """What is not the file that was meant does not stay, and the job fails."""
    server.add(name, Model(EMPTY_LORA))
    graph = with_lora(name, f"{server.url}/files/{name}", hash="0" * 64)
    async with pipeline_on(comfyui, environ=allowed(server)) as pipeline:
        result = await run(pipeline, graph)
    assert code(result) == "download_failed"
    assert not (comfyui.base_dir / "models/loras" / name).exists()


@pytest.mark.parametrize(
    ("model", "settings", "said"),
    [
        (Model(lora(2_000_000)), {"MODEL_MAX_GB": "0.001"}, "more than MODEL_MAX_GB"),
        (Model(EMPTY_LORA, has_length=False, takes_ranges=False), {}, "does not say how large it is"),
    ],
)
async def test_what_is_too_large(
    comfyui: RealComfyUI, server: ModelServer, name: str, model: Model, settings: dict[str, str], said: str
) -> None:
    """A job cannot fill the disk."""
    server.add(name, model)
    async with pipeline_on(comfyui, environ=allowed(server, **settings)) as pipeline:
        result = await run(pipeline, with_lora(name, f"{server.url}/files/{name}"))
    assert code(result) == "download_failed"
    assert result.error is not None
    assert said in result.error.message


async def test_the_operators_token_is_not_for_everybody(comfyui: RealComfyUI, server: ModelServer, name: str) -> None:
    """A private repository is given out only where the operator allows that."""
    server.add(name, Model(EMPTY_LORA, token="hf_5ecre7"))
    graph = with_lora(name, f"{server.url}/owner/repository/resolve/main/{name}")
    settings = allowed(server, HF_TOKEN="hf_5ecre7", HF_ENDPOINT=server.url)
    async with pipeline_on(comfyui, environ=settings) as pipeline:
        refused = await run(pipeline, graph)
    assert not [asked for asked in server.asked if "5ecre7" in json.dumps(asked.headers)]
    async with pipeline_on(comfyui, environ=settings, DOWNLOAD_MODELS_WITH_TOKENS="true") as pipeline:
        result = await run(pipeline, graph)
    assert [code(refused), code(result)] == ["download_failed", "succeeded"]


async def test_what_only_comfyui_finds_missing(comfyui: RealComfyUI, server: ModelServer, name: str) -> None:
    """A custom node's list may not be all that it takes, so ComfyUI is asked; what it refuses is fetched then."""
    body = lora(1000)
    server.add(name, Model(body))
    entry = {"name": name, "url": f"{server.url}/files/{name}", "directory": "upscale_models"}
    loader = {**workflows.node("TestModelFile", some_model=name), "_meta": {"models": [entry]}}
    graph = {"1": loader, workflows.SAVE: workflows.save("1")}
    async with pipeline_on(comfyui) as pipeline:
        refused = await run(pipeline, graph)
    async with pipeline_on(comfyui, environ=allowed(server)) as pipeline:
        result = await run(pipeline, graph)
    assert [code(refused), code(result)] == ["missing_model", "succeeded"]
    assert [colour_of(artifact)[0] for artifact in result.artifacts] == [len(body) % 256]
    assert refused.error is not None
    assert str(refused.error.hint).count("config.yml") == 1


async def test_two_jobs_fetch_once(comfyui: RealComfyUI, server: ModelServer, name: str) -> None:
    """The second waits for what the first has begun; both run."""
    body = lora(4_000_000)
    server.add(name, Model(body, stalls_after=1_000_000))
    watches = [Watch(), Watch()]
    one = allowed(server, DOWNLOAD_CONNECTIONS="1")  # several would fetch from each other what stalls
    async with pipeline_on(comfyui, environ=one) as pipeline, asyncio.TaskGroup() as group:
        graphs = [with_lora(name, f"{server.url}/files/{name}") for _ in watches]
        first = group.create_task(pipeline.run(request(graphs[0]), on_progress=watches[0]))
        await server.stalled.wait()
        second = group.create_task(pipeline.run(request(graphs[1]), on_progress=watches[1]))
        await watches[1].until_message(f"downloading {name}")
        server.released.set()
    assert server.sent[name] <= len(body) + 16
    assert [first.result().error, second.result().error] == [None, None]


async def test_a_canceled_job_leaves_what_has_come(comfyui: RealComfyUI, server: ModelServer, name: str) -> None:
    """Another job of the same model goes on where the canceled one stopped."""
    body = lora(12_000_000)
    model = server.add(name, Model(body, stalls_after=9_000_000))
    graph = with_lora(name, f"{server.url}/files/{name}")
    loras = comfyui.base_dir / "models/loras"
    async with pipeline_on(comfyui, environ=allowed(server, DOWNLOAD_CONNECTIONS="1")) as pipeline:
        job = asyncio.ensure_future(pipeline.run(request(graph)))
        await server.stalled.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        came = server.sent[name]
        assert [path.name for path in loras.iterdir() if path.name == name] == []
        model.stalls_after = None
        result = await pipeline.run(request(graph))
    assert (code(result), came >= 9_000_000) == ("succeeded", True)
    assert server.sent[name] < len(body) + came - 4_000_000


async def test_the_deadline_holds(comfyui: RealComfyUI, server: ModelServer, name: str) -> None:
    """A host that sends too slowly ends the job in time: not the job's own, which stands still meanwhile."""
    server.add(name, Model(lora(8_000_000), stalls_after=1_000_000))
    graph = with_lora(name, f"{server.url}/files/{name}")
    async with pipeline_on(comfyui, environ=allowed(server, MODEL_WAIT_TIMEOUT_S="1.5")) as pipeline:
        result = await pipeline.run(request(graph))
        given_up = request(graph).model_copy(update={"given_up_after_s": 1.0})
        in_time = await pipeline.run(given_up)
    assert [code(result), code(in_time)] == ["job_timeout", "job_timeout"]
    assert result.error is not None
    assert result.error.message == "the models that the workflow lacks were not there within 1.5 s"
    assert "MODEL_WAIT_TIMEOUT_S" in str(result.error.hint)


async def test_a_job_that_waits_is_in_nobodys_way(comfyui: RealComfyUI, server: ModelServer, name: str) -> None:
    """It leaves its place, others run meanwhile, and it has a place again before it runs itself."""
    server.add(name, Model(lora(4_000_000), stalls_after=1_000_000))
    graph = with_lora(name, f"{server.url}/files/{name}")
    places: list[str] = []

    @contextlib.asynccontextmanager
    async def stand_aside() -> AsyncIterator[None]:
        places.append("left")
        yield
        places.append("taken")

    one = allowed(server, DOWNLOAD_CONNECTIONS="1")
    async with pipeline_on(comfyui, environ=one) as pipeline, asyncio.TaskGroup() as group:
        job = group.create_task(pipeline.run(request(graph), stand_aside=stand_aside))
        await server.stalled.wait()
        assert places == ["left"]
        other = await pipeline.run(request(workflows.colour((1, 2, 3))))
        assert places == ["left"]
        server.released.set()
    result = job.result()
    assert [code(other), code(result), places] == ["succeeded", "succeeded", ["left", "taken"]]
    assert other.timings.total_s is not None
    assert result.timings.wait_s is not None
    assert result.timings.wait_s >= other.timings.total_s


async def test_a_job_is_taken_in_that_lacks_what_will_be_fetched(
    comfyui: RealComfyUI, server: ModelServer, name: str
) -> None:
    """The look before a job is queued fetches nothing, and does not refuse what its turn will bring."""
    server.add(name, Model(EMPTY_LORA))
    async with pipeline_on(comfyui, environ=allowed(server)) as pipeline:
        await pipeline.pool.any_ready()
        await pipeline.check(request(with_lora(name, f"{server.url}/files/{name}")))
    assert server.asked == []


def put_lora(comfyui: RealComfyUI, name: str) -> None:
    """Have a model arrive."""
    folder = comfyui.base_dir / "models/loras"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(EMPTY_LORA)


async def test_what_is_on_its_way_counts_as_there(comfyui: RealComfyUI, name: str) -> None:
    """A job is taken in whose model config.yml brings, waits for it, and runs; if it cannot be had, it is refused."""
    url = "https://example.org/a.safetensors"
    arrivals = Arrivals([ModelEntry(url=url, destination="loras", filename=name)])
    asked, watch = request(with_lora(name)), Watch()
    async with pipeline_on(comfyui) as running:
        settings = load_settings({"STATE_DIR": str(comfyui.base_dir / "state")})
        await running.pool.any_ready()
        async with Pipeline(running.pool, settings, arrivals=arrivals) as pipeline, asyncio.TaskGroup() as group:
            await pipeline.check(asked)
            job = group.create_task(pipeline.run(asked, on_progress=watch))
            await watch.until_message(f"waiting for {name}, which is being downloaded")
            await asyncio.to_thread(put_lora, comfyui, name)
            arrivals.ended(0)
        gone = Arrivals([ModelEntry(url=url, destination="loras", filename=f"gone-{name}")])
        gone.ended(0, JobError.of(DownloadFailed("it is gone")))
        async with Pipeline(running.pool, settings, arrivals=gone) as pipeline:
            with pytest.raises(DownloadFailed, match="it is gone"):
                await pipeline.check(request(with_lora(f"gone-{name}")))
    assert code(job.result()) == "succeeded"


@pytest.mark.parametrize("is_allowed", ["false", "true"])
async def test_what_only_our_own_configs_name_is_not_fetched(comfyui: RealComfyUI, is_allowed: str) -> None:
    """A model whose URL the workflow does not name is missing, with the lines for config.yml; nobody is asked."""
    graph = json.loads((REPOSITORY / "examples/workflows/sd1.5.json").read_text(encoding="utf-8"))
    async with pipeline_on(comfyui, DOWNLOAD_MODELS=is_allowed) as pipeline:
        result = await run(pipeline, graph)
    assert code(result) == "missing_model"
    assert result.error is not None
    assert "  - url: https://huggingface.co/" in str(result.error.details["config_yml"])


async def test_lines_for_what_nobody_says_where_it_is(comfyui: RealComfyUI) -> None:
    """A missing model and a missing class come with what to add to config.yml."""
    graph = with_lora("styles/gone.safetensors")
    graph["seed"] = workflows.node("Seed (rgthree)")
    async with pipeline_on(comfyui) as pipeline:
        result = await run(pipeline, graph)
    assert result.error is not None
    assert result.error.details["config_yml"] == (
        "models:\n"
        "  # wanted by node lora (LoraLoaderModelOnly)\n"
        "  # - url: ???\n"
        "  #   destination: loras/styles\n"
        "  #   filename: gone.safetensors\n"
        "nodes:\n"
        "  # brings Seed (rgthree); known by the names of its classes\n"
        "  - url: https://github.com/rgthree/rgthree-comfy\n"
    )
    assert str(result.error.hint).endswith(
        "Add to config.yml below `models:` `- {url: ???, destination: loras/styles, filename: gone.safetensors}`. "
        "Add to config.yml below `nodes:` `- {url: https://github.com/rgthree/rgthree-comfy}`."
    )
    assert CHECKPOINT_NAME not in str(result.error.details)
