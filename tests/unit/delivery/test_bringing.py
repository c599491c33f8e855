"""Artifacts brought to the client, and what is said of those that did not arrive."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from comfyworker.delivery.bringing import Bringer, delivery_failed
from comfyworker.jobs import Artifact, DeliveryFault, Output, PictureFormat
from comfyworker.settings import load_settings
from support.artifacts import file_artifact


class Kept:
    """Leaves the files where they are, or takes them."""

    def __init__(self, *, keeps_outputs: bool = False) -> None:
        """Say whether the files must stay in ComfyUI's folders."""
        self.keeps_outputs = keeps_outputs

    async def deliver(self, artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
        """Return the artifacts as they are."""
        return tuple(artifacts)


@pytest.fixture
def picture(tmp_path: Path) -> Artifact:
    """Return a small picture."""
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8), "red").save(path)
    return file_artifact(path, comfyui_url="http://comfyui/view")


def bringer(**variables: str) -> Bringer:
    """Return one with these settings."""
    return Bringer(load_settings(variables).delivery)


@pytest.mark.parametrize(
    ("variables", "output", "name"),
    [
        ({}, Output(), "a.png"),
        ({}, Output(format=PictureFormat.WEBP), "a.webp"),
        ({"OUTPUT_FORMAT": "jpg"}, Output(), "a.jpg"),
        ({"OUTPUT_FORMAT": "jpg"}, Output(format=PictureFormat.WEBP), "a.webp"),
        ({"OUTPUT_FORMAT": "webp"}, Output(format=PictureFormat.PNG), "a.png"),
    ],
)
async def test_the_request_says_the_format_else_the_worker(
    picture: Artifact, tmp_path: Path, variables: dict[str, str], output: Output, name: str
) -> None:
    """Before the delivery, whatever it is."""
    brought = await bringer(**variables).bring([picture], output, delivery=Kept(), spool=tmp_path / "spool")
    assert [artifact.name for artifact in brought.artifacts] == [name]
    assert brought.warnings == ()


async def test_what_comfyui_serves_is_not_changed(picture: Artifact, tmp_path: Path) -> None:
    """Its folders are not ours; the answer says that it went differently than asked."""
    delivery = Kept(keeps_outputs=True)
    brought = await bringer().bring([picture], Output(format=PictureFormat.WEBP), delivery=delivery, spool=tmp_path)
    assert brought.artifacts == (picture,)
    [warning] = brought.warnings
    assert warning == (
        "pictures are delivered in their own format instead of webp: "
        "ComfyUI's own URLs lead to the files as the workflow made them"
    )
    assert (await bringer().bring([picture], Output(), delivery=delivery, spool=tmp_path)).warnings == ()


def lost(picture: Artifact, name: str, fault: DeliveryFault | None) -> Artifact:
    """Return the picture under another name, with what became of it."""
    return picture.model_copy(update={"name": name, "failure": fault})


def test_a_failed_delivery_names_what_arrived_and_what_did_not(picture: Artifact) -> None:
    """Each hint once, and what is kept."""
    faults = [DeliveryFault(message=f"{name} did not arrive", hint="Wait.", may_pass=True) for name in ("a", "c")]
    artifacts = [
        lost(picture, "a.png", faults[0]),
        lost(picture, "b.png", None),
        lost(picture, "c.png", faults[1]),
    ]
    error = delivery_failed(artifacts, kept=["a.png", "c.png"])
    assert error.message == "2 of 3 artifacts could not be delivered: a did not arrive; c did not arrive"
    assert error.hint == "Wait. The worker keeps the files for a while under `undelivered` in its STATE_DIR."
    assert error.details == {"failed": ["a.png", "c.png"], "delivered": ["b.png"], "kept": ["a.png", "c.png"]}
    assert [problem.node_id for problem in error.problems] == ["9", "9"]
    assert error.retryable


def test_one_lasting_fault_makes_trying_again_useless(picture: Artifact) -> None:
    """A wrong key stays wrong; nothing kept is not spoken of."""
    faults = [DeliveryFault(message="down", may_pass=True), DeliveryFault(message="the key is wrong")]
    error = delivery_failed([lost(picture, "a.png", fault) for fault in faults], kept=())
    assert (error.retryable, error.hint) == (False, None)
