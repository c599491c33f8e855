"""What is cut out of texts that leave the worker."""

import pytest

from comfyworker.redaction import hide_credentials, hide_queries, redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No such file: '/comfyui/models/vae/x.pt'", "No such file: '…/x.pt'"),
        ('File "/opt/ComfyUI/nodes.py", line 7', 'File "…/nodes.py", line 7'),
        (r"C:\ComfyUI\models\x.pt is gone", "…/x.pt is gone"),
        ("GET https://bucket.host/a/b.png?X-Amz-Signature=abc failed", "GET https://bucket.host/a/b.png?… failed"),
        ("proxy http://me:pass@host:3128/ refused", "proxy http://…@host:3128/ refused"),
        ("api_key=sk-123 is wrong", "api_key=… is wrong"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer …"),
        ("expected 3/4 of and/or 1/2", "expected 3/4 of and/or 1/2"),
        ("a plain sentence", "a plain sentence"),
    ],
)
def test_redact(text: str, expected: str) -> None:
    """Directories, query strings, passwords and secrets go; file names and plain text stay."""
    assert redact(text) == expected


def test_hide_queries() -> None:
    """Of every URL in a text; the rest stays."""
    text = "a https://h/x?token=1 and http://h/y?z, and https://h/q"
    assert hide_queries(text) == "a https://h/x?… and http://h/y?… and https://h/q"


def test_hide_credentials() -> None:
    """A URL's user and password go, in each of several URLs."""
    assert hide_credentials("http://u:p@a:1,https://b") == "http://…@a:1,https://b"
