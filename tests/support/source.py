"""Our own source, as tests about its shape read it."""

from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SOURCE = REPOSITORY / "src"
GENERATED = {"_version.py"}
FOLDERS = ("src", "tests", "tools", "benchmarks")


def python_files() -> Iterator[Path]:
    """Yield every Python file that people wrote, in a fixed order."""
    for folder in FOLDERS:
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            if path.name not in GENERATED:
                yield path


def module_names() -> list[str]:
    """Return the dotted name of every module of the package, in a fixed order."""
    names = []
    for path in sorted((SOURCE / "comfyworker").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def package_names() -> list[str]:
    """Return the dotted name of every package, the root included."""
    return [name for name in module_names() if (SOURCE / name.replace(".", "/")).is_dir()]


def source_of(name: str) -> str:
    """Return the text of the module of that dotted name."""
    path = SOURCE / name.replace(".", "/")
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
