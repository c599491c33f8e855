"""Artifacts that stay where they are."""

import pytest

from comfyworker.delivery.comfyui_url import ComfyUIUrlDelivery
from comfyworker.errors import DeliveryFailed
from comfyworker.jobs import UrlType
from support.artifacts import artifact, text_artifact


async def test_comfyuis_url_becomes_the_artifacts() -> None:
    """A text needs no URL: it stands in the answer."""
    url = "http://comfyui/view?filename=a.png"
    picture, text = artifact("a.png", comfyui_url=url), text_artifact("hello")
    delivered = picture.model_copy(update={"url": url, "url_type": UrlType.COMFYUI_URL})
    assert await ComfyUIUrlDelivery().deliver((picture, text)) == (delivered, text)


async def test_files_that_nobody_serves_fail_the_job_by_name() -> None:
    """All of them at once."""
    artifacts = [artifact("a.png"), artifact("b.png", comfyui_url="http://comfyui/view"), artifact("c.png")]
    with pytest.raises(DeliveryFailed) as caught:
        await ComfyUIUrlDelivery().deliver(artifacts)
    assert caught.value.message == (
        "node 9 made a.png, which no ComfyUI serves any more; node 9 made c.png, which no ComfyUI serves any more"
    )
