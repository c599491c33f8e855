"""Where the models of this project's own configs are, for workflows that do not say it themselves."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources

from comfyworker.provision.proposal.records import ProposedModel

KNOWN_BY = "comfyworker's own configs"


@cache
def known_models() -> Mapping[tuple[str, str], tuple[str, ...]]:
    """Return the URLs of each known model, the best first, by its destination and its file's name."""
    text = resources.files(__package__).joinpath("known_models.toml").read_text(encoding="utf-8")
    return {(entry["destination"], entry["filename"]): tuple(entry["urls"]) for entry in tomllib.loads(text)["model"]}


def fill_in(model: ProposedModel) -> ProposedModel:
    """Return a proposed model with where it is, if it does not say so and is known by its name and folder."""
    urls = known_models().get((model.destination or "", model.filename), ())
    if model.url is not None or model.fault is not None or not urls:
        return model
    return model.model_copy(update={"url": urls[0], "other_urls": urls[1:], "known_by": KNOWN_BY})


def files_of(folder: ProposedModel) -> tuple[ProposedModel, ...]:
    """Return the files of a model that is a folder, if it is a known one; none if it is not."""
    place = f"{folder.destination}/{folder.filename}"
    return tuple(
        ProposedModel(
            filename=filename,
            destination=destination,
            url=urls[0],
            other_urls=urls[1:],
            known_by=KNOWN_BY,
            wanted_by=folder.wanted_by,
        )
        for (destination, filename), urls in known_models().items()
        if destination == place
    )
