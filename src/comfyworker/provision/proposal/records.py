"""What a workflow needs, as entries for a config.yml: those that are whole, and those that a person must complete."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class ProposedModel(_Record):
    """A model file that a workflow names."""

    filename: str
    destination: str | None
    """A folder below ComfyUI's models folder, as config.yml takes it; None if that is not known."""
    url: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    wanted_by: tuple[str, ...] = ()
    """The nodes that name it, for people."""
    other_urls: tuple[str, ...] = ()
    """Where else it is said to be."""
    known_by: str | None = None
    """How its URL is known where the workflow does not say it, for people."""
    fault: str | None = None
    """Why config.yml would not take it; None if it would."""

    @property
    def is_whole(self) -> bool:
        """Whether it can stand in a config.yml as it is."""
        return self.url is not None and self.destination is not None and self.fault is None

    @property
    def place(self) -> tuple[str | None, str]:
        """Which file it is; two of the same place are the same."""
        return self.destination, self.filename


class ProposedPack(_Record):
    """A custom node that brings classes which a workflow uses."""

    classes: tuple[str, ...]
    url: str | None = None
    """A git repository."""
    name: str | None = None
    """A name of the Comfy Registry."""
    version: str | None = None
    known_by: str | None = None
    """How it is known which one, for people."""
    candidates: tuple[str, ...] = ()
    """Repositories that bring these classes, where it is not known which one is meant."""
    folder: str | None = None
    """What its folder is called in the ComfyUI that was asked."""

    @property
    def is_whole(self) -> bool:
        """Whether it can stand in a config.yml as it is."""
        return self.url is not None or self.name is not None


class Proposal(_Record):
    """All that one or several workflows need."""

    models: tuple[ProposedModel, ...] = ()
    packs: tuple[ProposedPack, ...] = ()
    comfyui_version: str | None = None
    """The newest release that nodes of ComfyUI's own were saved with."""
    not_looked_up: tuple[str, ...] = ()
    """What a host might have told, and why it did not, for people."""
