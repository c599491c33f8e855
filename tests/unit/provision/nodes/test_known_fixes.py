"""Known fixes are data."""

from packaging.requirements import Requirement

from comfyworker.provision.entries import NodeEntry
from comfyworker.provision.nodes import ResolvedNode
from comfyworker.provision.nodes.known_fixes import find_fixes, known_fixes, package_of


def node(url: str | None = None, name: str | None = None) -> ResolvedNode:
    """Return a custom node."""
    return ResolvedNode(entry=NodeEntry(url=url, name=name), folder="x", url=url, name=name)


def test_each_fix_says_what_and_why() -> None:
    """Requirements that can be read, somewhere to apply them, and a reason."""
    for fix in known_fixes():
        assert [str(Requirement(text)) for text in fix.requirements]
        assert fix.repositories or fix.registry
        assert fix.reason


def test_brushnet_gets_what_seed_001_says() -> None:
    """By its repository, however written, and by its name in the registry."""
    wanted = ("diffusers>=0.29.0", "accelerate>=0.29.0,<0.32.0", "peft>=0.7.0")
    nodes = (
        node("https://github.com/nullquant/ComfyUI-BrushNet.git"),
        node("git@github.com:NullQuant/comfyui-brushnet"),
        node(name="comfyui-brushnet"),
    )
    assert [[fix.requirements for fix in find_fixes(one)] for one in nodes] == [[wanted]] * 3
    assert find_fixes(node("https://github.com/other/ComfyUI-BrushNet")) == ()


def test_modules_are_known_by_their_packages() -> None:
    """Where the names differ, and as they are where they do not."""
    assert [package_of(name) for name in ("cv2", "skimage.io", "einops", "color_matcher")] == [
        "opencv-python-headless",
        "scikit-image",
        "einops",
        "color-matcher",
    ]
