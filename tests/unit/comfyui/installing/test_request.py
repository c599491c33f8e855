"""Which git ref is meant."""

import pytest

from comfyworker.comfyui.installing.request import DEFAULT_REF, normalize_ref
from comfyworker.errors import InstallFailed


@pytest.mark.parametrize(
    ("given", "meant"),
    [(None, DEFAULT_REF), ("0.3.64", "v0.3.64"), ("v0.3.64", "v0.3.64"), ("master", "master"), ("4f5a1b", "4f5a1b")],
)
def test_a_bare_version_is_its_tag(given: str | None, meant: str) -> None:
    """ComfyUI's tags begin with v; everything else is taken as it is."""
    assert normalize_ref(given) == meant


@pytest.mark.parametrize("given", ["--upload-pack=x", "", "a..b", "a b"])
def test_what_can_be_no_ref_is_refused(given: str) -> None:
    """Nothing that git would take for an option reaches it."""
    with pytest.raises(InstallFailed, match="--ref"):
        normalize_ref(given)
