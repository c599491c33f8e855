"""What of addresses is shown, kept and understood."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyworker.provision.download import plain_url, shown_source
from comfyworker.provision.download._faults import Fault
from comfyworker.provision.download._hub import ENDPOINT, HubFile, find_hub_file


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@host:8443/a/b.gguf?token=x#y", "https://host:8443/a/b.gguf"),
        ("s3://bucket/vae/x.safetensors", "s3://bucket/vae/x.safetensors"),
        ("file:///home/me/x.safetensors", "the file 'x.safetensors'"),
        ("/home/me/x.safetensors", "the file 'x.safetensors'"),
        ("https://[::1]:80/x", "https://[::1]:80/x"),
        ("https://host:port/x", "a URL"),
    ],
)
def test_what_is_shown(url: str, shown: str) -> None:
    """No query, no password, and of this machine's paths only the name."""
    assert shown_source(url) == shown


def test_what_is_kept() -> None:
    """Tokens and signatures are left out, so that an address is the same with another token."""
    url = "https://u:p@civitai.com/api/download/models/1?type=Model&token=x&fp=fp16&X-Amz-Signature=y&Expires=5"
    assert plain_url(url) == "https://civitai.com/api/download/models/1?type=Model&fp=fp16"
    assert plain_url("/a/b c") == "/a/b c"


@given(st.text(max_size=80).map(lambda text: f"https://host/{text}"))
def test_any_address_can_be_shown(url: str) -> None:
    """None of them raises; keeping twice is keeping once."""
    shown_source(url)
    assert plain_url(plain_url(url)) == plain_url(url)


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("https://huggingface.co/o/n/resolve/main/a/b.gguf", HubFile("o/n", "a/b.gguf")),
        ("https://huggingface.co/o/n/blob/v1/b%20c.gguf?download=true", HubFile("o/n", "b c.gguf", "v1")),
        ("https://huggingface.co/gpt2/resolve/main/b.gguf", HubFile("gpt2", "b.gguf")),
        ("https://huggingface.co/o/n/resolve/refs%2Fpr%2F1/b.gguf", HubFile("o/n", "b.gguf", "refs/pr/1")),
        ("https://huggingface.co/o/n/resolve/refs/pr/1/b.gguf", HubFile("o/n", "b.gguf", "refs/pr/1")),
        ("https://huggingface.co/datasets/o/n/resolve/main/b.gguf", HubFile("o/n", "b.gguf", kind="dataset")),
        ("hf://datasets/o/n/b.gguf", HubFile("o/n", "b.gguf", kind="dataset")),
        ("hf://o/n@abc/a/b.gguf", HubFile("o/n", "a/b.gguf", "abc")),
        ("https://example.org/o/n/resolve/main/b.gguf", None),
        ("s3://o/n", None),
        ("/o/n/resolve/main/b.gguf", None),
    ],
)
def test_files_of_the_hub(url: str, file: HubFile | None) -> None:
    """Each way to write one is understood, and nothing else is taken for one."""
    assert find_hub_file(url, ENDPOINT) == file


@pytest.mark.parametrize(
    "url", ["https://huggingface.co/o/n/resolve/main/../../x", "hf://o/n/../x", "hf://o/n/%2e%2e/x"]
)
def test_paths_that_lead_out_of_a_repository(url: str) -> None:
    """They are refused."""
    with pytest.raises(Fault):
        find_hub_file(url, ENDPOINT)
