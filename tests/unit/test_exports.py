"""What a package says it exports is what it exports."""

import ast
import importlib

import pytest

from support.source import package_names, source_of

PACKAGES = [name for name in package_names() if "__all__" in source_of(name)]


def public_names(package: str) -> set[str]:
    """Return the names that a package takes from our modules or defines itself, private ones left out."""
    names: set[str] = set()
    for node in ast.parse(source_of(package)).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("comfyworker"):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("package", PACKAGES)
def test_exports_are_all_public_names(package: str) -> None:
    """`__all__` names each public name and no other, and each can be imported."""
    module = importlib.import_module(package)
    declared = set(module.__all__)
    assert {export for export in declared if not hasattr(module, export)} == set()
    assert {export for export in declared if not export.startswith("_")} == public_names(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_exports_are_listed_once(package: str) -> None:
    """No name is exported twice; ruff holds their order."""
    exports = importlib.import_module(package).__all__
    assert len(set(exports)) == len(exports)
