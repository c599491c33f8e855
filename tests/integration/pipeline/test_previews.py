"""Previews: what a sampler is at, shown while it runs, from a ComfyUI that was started for it."""

import io
from pathlib import Path

from PIL import Image

from support import workflows
from support.pipelines import pipeline_of_own, request
from support.ports import free_port
from support.real_comfyui import Install


async def test_a_sampler_shows_what_it_is_at(comfyui_base: Path, comfyui_install: Install) -> None:
    """Each step of the sampler brings a picture with the sampler's id; who does not listen, gets the same result."""
    seen: list[tuple[str, str, bytes]] = []
    async with pipeline_of_own(
        comfyui_base, comfyui_install.path, free_port(), COMFYUI_PREVIEW_METHOD="auto"
    ) as pipeline:
        shown = await pipeline.run(
            request(workflows.text_to_image(steps=3, seed=1)), on_preview=lambda *preview: seen.append(preview)
        )
        unseen = await pipeline.run(request(workflows.text_to_image(steps=3, seed=2)))
    assert (shown.error, unseen.error) == (None, None)
    assert [(node, kind) for node, kind, _ in seen] == [("5", "image/jpeg")] * 3
    assert [Image.open(io.BytesIO(data)).format for _, _, data in seen] == ["JPEG"] * 3
    assert len({data for _, _, data in seen}) == 3
