"""Packs that are known to need more than their requirements say; the list is data, in known_fixes.toml."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from comfyworker.provision.nodes.records import ResolvedNode
from comfyworker.provision.nodes.remotes import repository_id

_FILE = Path(__file__).with_name("known_fixes.toml")


class KnownFix(BaseModel):
    """What is installed for one pack beside its own requirements."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pack: str
    repositories: tuple[str, ...] = ()
    """Host and path, as `github.com/someone/pack`; letter case does not count."""
    registry: tuple[str, ...] = ()
    """Names in the Comfy Registry."""
    requirements: tuple[str, ...]
    reason: str
    """Why, as the second half of a sentence."""

    def is_for(self, node: ResolvedNode) -> bool:
        """Tell whether a custom node is that pack."""
        if node.name is not None and node.name.lower() in {name.lower() for name in self.registry}:
            return True
        return node.url is not None and repository_id(node.url) in {name.lower() for name in self.repositories}


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    fix: tuple[KnownFix, ...]
    modules: dict[str, str]


def known_fixes() -> tuple[KnownFix, ...]:
    """Return all known fixes."""
    return _read().fix


def find_fixes(node: ResolvedNode) -> tuple[KnownFix, ...]:
    """Return the fixes that a custom node needs."""
    return tuple(fix for fix in known_fixes() if fix.is_for(node))


def package_of(module: str) -> str:
    """Return the package that most likely brings a module: its first part, unless it is known to be named otherwise."""
    top = module.partition(".")[0]
    return _read().modules.get(top, top.replace("_", "-"))


@cache
def _read() -> _Document:
    return _Document.model_validate(tomllib.loads(_FILE.read_text(encoding="utf-8")))
