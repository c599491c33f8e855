"""Packages and an environment for custom nodes, without a network: wheels of a test's own."""

import shutil
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.real_comfyui import Install


def make_wheel(
    folder: Path, name: str, version: str, *, requires: Sequence[str] = (), files: Mapping[str, str] | None = None
) -> Path:
    """Write a wheel of one module, which knows its version, and of `files` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    path = folder / f"{module}-{version}-py3-none-any.whl"
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    contents = {
        **(files or {}),
        f"{module}.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in [*contents, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as wheel:
        for file, content in {**contents, f"{info}/RECORD": record}.items():
            wheel.writestr(file, content)
    return path


def make_overlay(install: Install, folder: Path) -> Path:
    """Make an environment that has all of ComfyUI's packages and may be written to; return its interpreter.

    It holds copies of what says which packages there are, and finds the packages themselves in the real one.
    """
    command = [str(install.python), "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    [own] = folder.glob("lib/python*/site-packages")
    asked = [str(install.python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    real = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    (own / "real.pth").write_text(f"{real}\n", encoding="utf-8")
    for info in real.glob("*.dist-info"):
        if not info.name.startswith("pip-"):
            shutil.copytree(info, own / info.name)
    return folder / "bin" / "python"
