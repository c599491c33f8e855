"""A proposal as the text of a config.yml: what is whole stands as it is, what a person must complete as a comment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import unquote, urlsplit

from comfyworker.provision.proposal.gathering import told
from comfyworker.provision.proposal.records import Proposal, ProposedModel, ProposedPack

UNKNOWN = "???"
"""What stands where a person must fill something in."""
_HUB = "huggingface.co"
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./@%+~=-]*")
_PLAIN_URL = re.compile(r"[a-z0-9]+://[A-Za-z0-9_./@%+~?=&:-]*[A-Za-z0-9_/=]")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def render_proposal(proposal: Proposal, *, made_from: Sequence[str] = ()) -> str:
    """Return the text of a config.yml, which is valid whatever the workflow holds.

    Args:
        proposal: What is needed.
        made_from: What the workflows are called, for the text's head; none leaves the head out.
    """
    lines = [*_head(proposal, made_from)] if made_from else []
    if proposal.models:
        lines.append("models:")
        for model in proposal.models:
            lines += _model(model)
    if proposal.packs:
        lines.append("nodes:")
        for pack in proposal.packs:
            lines += _pack(pack)
    if proposal.comfyui_version is not None and made_from:
        lines.append("# comfyui:  # the newest that its nodes were saved with")
        lines.append(f"#   version: {_scalar(proposal.comfyui_version)}")
    return "\n".join(lines) + "\n" if lines else ""


def in_one_line(entry: ProposedModel | ProposedPack) -> str:
    """Return an entry as one line of config.yml, with ??? for what is not known."""
    if isinstance(entry, ProposedModel):
        values = [f"{key}: {value}" for key, value, _ in _model_values(entry)]
    else:
        values = [f"{key}: {value}" for key, value in _pack_values(entry)]
    return f"- {{{', '.join(values)}}}"


def _head(proposal: Proposal, made_from: Sequence[str]) -> Iterator[str]:
    need = "needs" if len(made_from) == 1 else "need"
    yield f"# What {_comment(told(made_from))} {need}; made by `comfyworker workflow config`."
    models = [model for model in proposal.models if not model.is_whole]
    packs = [pack for pack in proposal.packs if not pack.is_whole]
    for entries, noun in ((models, "model"), (packs, "custom node")):
        if entries:
            yield f"# To fill in by hand: {len(entries)} {noun}{'s' if len(entries) > 1 else ''}; each is a comment."
    for note in proposal.not_looked_up:
        yield f"# Not looked up: {_comment(note)}"


def _model(model: ProposedModel) -> Iterator[str]:
    mark = "  " if model.is_whole else "  # "
    if model.fault is not None:
        yield f"  # {_comment(model.fault)}"
    if model.wanted_by:
        known = f"; its URL is that of {model.known_by}" if model.known_by else ""
        yield f"  # wanted by {_comment(told(model.wanted_by))}{known}"
    start = "- "
    for key, value, note in _model_values(model):
        yield f"{mark}{start}{key}: {value}{f'  # {note}' if note else ''}"
        start = "  "
    for url in model.other_urls:
        yield f"  #   or url: {_scalar(url)}"


def _model_values(model: ProposedModel) -> Iterator[tuple[str, str, str | None]]:
    yield "url", UNKNOWN if model.url is None else _scalar(model.url), None
    yield "destination", UNKNOWN if model.destination is None else _scalar(model.destination), None
    if model.url is None or not _is_named_by(model.url, model.filename):
        yield "filename", _scalar(model.filename), None
    if model.sha256 is not None:
        yield "sha256", _scalar(model.sha256), None
    if model.size_bytes is not None:
        yield "size", str(model.size_bytes), _in_units(model.size_bytes)


def _pack(pack: ProposedPack) -> Iterator[str]:
    mark = "  " if pack.is_whole else "  # "
    known = f"; known by {pack.known_by}" if pack.known_by else ""
    yield f"  # brings {_comment(told(pack.classes))}{known}"
    if pack.folder is not None and not pack.is_whole:
        yield f"  # its folder in the ComfyUI that was asked: {_comment(pack.folder)}"
    start = "- "
    for key, value in _pack_values(pack):
        yield f"{mark}{start}{key}: {value}"
        start = "  "
    for url in pack.candidates:
        yield f"  #   perhaps {_scalar(url)}"


def _pack_values(pack: ProposedPack) -> Iterator[tuple[str, str]]:
    if pack.name is not None:
        yield "name", _scalar(pack.name)
    else:
        yield "url", UNKNOWN if pack.url is None else _scalar(pack.url)
    if pack.version is not None:
        yield "version", _scalar(pack.version)


def _is_named_by(url: str, filename: str) -> bool:
    """Tell whether a URL gives the file its name for certain: other hosts than the Hub may send another one."""
    parts = urlsplit(url)
    return parts.hostname == _HUB and unquote(parts.path.rstrip("/").rpartition("/")[2]) == filename


def _in_units(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"


def _scalar(text: str) -> str:
    """Return text as a value of YAML, in quotes where it could be read as anything else."""
    is_plain = _PLAIN.fullmatch(text) or _PLAIN_URL.fullmatch(text)
    if is_plain and text.lower() not in _WORDS:
        return text
    return '"' + "".join(_escaped(sign) for sign in text) + '"'


def _escaped(sign: str) -> str:
    if sign in '"\\':
        return f"\\{sign}"
    if sign.isprintable():
        return sign
    return f"\\U{ord(sign):08x}" if ord(sign) > 0xFFFF else f"\\u{ord(sign):04x}"


def _comment(text: str) -> str:
    """Return text that cannot end the comment that it stands in."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
