"""The road of an install: what is left alone, what goes on, what begins anew. pip's part is replaced."""

from collections.abc import Callable
from pathlib import Path

import pytest

from comfyworker.comfyui.install_record import FolderState, read_record, read_state
from comfyworker.comfyui.installing import InstallRequest, environment, install_comfyui
from comfyworker.errors import InstallFailed


class Journal:
    """A reporter that keeps what it was told; it also notes the parts that were really done."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.done: list[str] = []

    def step(self, number: int, total: int, title: str) -> None:
        """Called when a step begins."""

    def line(self, text: str) -> None:
        """Called for each line of output."""

    def note(self, text: str) -> None:
        """Keep a sentence for the user."""
        self.notes.append(text)


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Journal:
    """Replace what takes minutes: the environment, torch and the requirements."""
    journal = Journal()

    async def make_environment(_interpreter: Path, folder: Path, _reporter: object) -> Path:
        journal.done.append("environment")
        return folder / "bin/python"

    async def install_torch(*_: object, **__: object) -> None:
        journal.done.append("torch")

    async def install_requirements(*_: object, **__: object) -> None:
        journal.done.append("requirements")

    monkeypatch.setattr(environment, "make_environment", make_environment)
    monkeypatch.setattr(environment, "install_torch", install_torch)
    monkeypatch.setattr(environment, "install_requirements", install_requirements)
    return journal


@pytest.fixture
def request_for(tmp_path: Path) -> Callable[..., InstallRequest]:
    """Return a maker of requests that copy a small tree."""
    source = tmp_path / "source"
    (source / "comfy").mkdir(parents=True)
    (source / "main.py").write_text("main")
    (source / "requirements.txt").write_text("")
    (source / "comfyui_version.py").write_text('__version__ = "0.3.75"')

    def make(**changes: object) -> InstallRequest:
        base = InstallRequest(path=tmp_path / "ComfyUI", source=str(source), cpu=True, check=False)
        return base.model_copy(update=changes)

    return make


def fail_in(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let one part of the environment fail."""

    async def fail(*_: object, **__: object) -> None:
        raise InstallFailed("cut")

    monkeypatch.setattr(environment, name, fail)


async def test_an_install_is_noted_as_whole(journal: Journal, request_for: Callable[..., InstallRequest]) -> None:
    """At the end the folder counts as whole, with the version that its tree says."""
    outcome = await install_comfyui(request_for(), journal)
    assert (outcome.is_new, outcome.version, read_state(outcome.path)) == (True, "0.3.75", FolderState.WHOLE)
    assert journal.done == ["environment", "torch", "requirements"]


async def test_a_whole_install_is_left_alone(journal: Journal, request_for: Callable[..., InstallRequest]) -> None:
    """A second call does nothing and says what is there."""
    first = await install_comfyui(request_for(), journal)
    journal.done.clear()
    second = await install_comfyui(request_for(), journal)
    assert second == first.model_copy(update={"is_new": False})
    assert journal.done == []


async def test_force_makes_it_anew_and_keeps_what_is_the_users(
    journal: Journal, request_for: Callable[..., InstallRequest]
) -> None:
    """With --force code and environment are new; models and outputs stay."""
    path = (await install_comfyui(request_for(), journal)).path
    (path / "output/picture.png").write_text("picture")
    (path / "main.py").write_text("changed")
    journal.done.clear()
    outcome = await install_comfyui(request_for(force=True), journal)
    assert journal.done == ["environment", "torch", "requirements"]
    assert ((path / "main.py").read_text(), (path / "output/picture.png").read_text()) == ("main", "picture")
    assert outcome.is_new


async def test_an_interrupted_install_goes_on(
    journal: Journal, request_for: Callable[..., InstallRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tree is kept, the environment is made anew, and the folder is whole only then."""
    with monkeypatch.context() as patch:
        fail_in(patch, "install_requirements")
        with pytest.raises(InstallFailed, match="cut"):
            await install_comfyui(request_for(), journal)
    request = request_for()
    record = read_record(request.path)
    assert (read_state(request.path), record and record.done) == (FolderState.UNFINISHED, ("tree",))
    journal.done.clear()
    await install_comfyui(request, journal)
    assert journal.done == ["environment", "torch", "requirements"]
    assert "An interrupted install goes on; done already: tree." in journal.notes
    assert read_state(request.path) is FolderState.WHOLE


async def test_what_cannot_be_proven_begins_anew(
    journal: Journal, request_for: Callable[..., InstallRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An install whose torch cannot be imported is not whole, and nothing of it counts as done."""
    fail_in(monkeypatch, "read_torch_version")
    with pytest.raises(InstallFailed, match="cut"):
        await install_comfyui(request_for(check=True), journal)
    record = read_record(request_for().path)
    assert (read_state(request_for().path), record and record.done) == (FolderState.UNFINISHED, ())


async def test_another_request_does_not_go_on(
    journal: Journal, request_for: Callable[..., InstallRequest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was done for another source does not count."""
    with monkeypatch.context() as patch:
        fail_in(patch, "install_torch")
        with pytest.raises(InstallFailed):
            await install_comfyui(request_for(), journal)
    other = (tmp_path / "source").rename(tmp_path / "other")
    (other / "main.py").write_text("other")
    outcome = await install_comfyui(request_for(source=str(other)), journal)
    assert (outcome.path / "main.py").read_text() == "other"
    assert journal.notes == ["Models, outputs and custom nodes in folders were not copied."] * 2


async def test_a_comfyui_made_by_hand_is_left_alone(
    journal: Journal, request_for: Callable[..., InstallRequest]
) -> None:
    """A ComfyUI without our note is not touched, and --force does not change that."""
    path = request_for().path
    path.mkdir()
    (path / "main.py").write_text("mine")
    outcome = await install_comfyui(request_for(), journal)
    assert (outcome.is_new, outcome.record, (path / "main.py").read_text()) == (False, None, "mine")
    with pytest.raises(InstallFailed, match="not made by this command"):
        await install_comfyui(request_for(force=True), journal)


async def test_a_folder_with_something_else_is_refused(
    journal: Journal, request_for: Callable[..., InstallRequest]
) -> None:
    """Nothing is written into a folder that holds something else."""
    path = request_for().path
    path.mkdir()
    (path / "letters.txt").touch()
    with pytest.raises(InstallFailed, match="no ComfyUI"):
        await install_comfyui(request_for(), journal)
    assert [entry.name for entry in path.iterdir()] == ["letters.txt"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "nowhere"}, "neither git, package, auto nor a folder"),
        ({"source": "package", "ref": "v0.3.64"}, "carries ComfyUI v0.3.75 only"),
        ({"ref": "v0.3.64"}, "--ref has no meaning for a folder"),
        ({"python": Path("/nowhere/python")}, "--python"),
    ],
)
async def test_what_cannot_be_is_refused_at_once(
    journal: Journal, request_for: Callable[..., InstallRequest], changes: dict[str, object], message: str
) -> None:
    """A request that cannot be met changes nothing."""
    with pytest.raises(InstallFailed, match=message):
        await install_comfyui(request_for(**changes), journal)
    assert (journal.done, read_state(request_for().path)) == ([], FolderState.EMPTY)
