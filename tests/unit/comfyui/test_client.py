"""URLs that ComfyUI serves."""

import aiohttp
import pytest

from comfyworker.comfyui.client import ComfyUIClient
from comfyworker.settings import ComfyUISettings


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://127.0.0.1:8188", "http://127.0.0.1:8188/view?filename=a+b%26c.png&subfolder=s/t&type=output"),
        ("https://host/comfy/", "https://host/comfy/view?filename=a+b%26c.png&subfolder=s/t&type=output"),
        ("http://user:secret@host", "http://host/view?filename=a+b%26c.png&subfolder=s/t&type=output"),
    ],
)
async def test_the_url_of_a_file(base: str, url: str) -> None:
    """Names are quoted; the password for ComfyUI is not told to who reads an answer."""
    async with aiohttp.ClientSession() as session:
        assert ComfyUIClient(base, session, ComfyUISettings()).view_url("a b&c.png", "s/t", "output") == url
