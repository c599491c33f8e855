"""An empty Debian in which the image's steps are run, and what they are given instead of Ubuntu, GitHub and a GPU."""

import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

from comfyworker.comfyui.installing.commands import CPU_INDEX
from comfyworker.comfyui.installing.tree import copy_folder
from support.git_repositories import GitRepository, node_code
from support.image_root import Root, image_environ
from support.real_comfyui import find_install
from support.source import REPOSITORY

MIRROR = "http://deb.debian.org/debian"
RELEASE = "bookworm"
TAG = "v0.3.75"
NODE_CLASS = "BakedGreeting"
_CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt",)
_EMPTY_MODEL = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'


def make_debian(path: Path, kept: Path | None) -> None:
    """Make an empty Debian in `path`: a copy of one that was kept, or a new one.

    Raises:
        AssertionError: It could not be made.
    """
    if kept is not None:
        command = ["cp", "-a", f"{kept}/.", str(path)]
    else:
        command = ["debootstrap", "--variant=minbase", RELEASE, str(path), MIRROR]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def prepare(path: Path, build: Path) -> Root:
    """Return the root with what the builder mounts for the steps, in /build, and uv."""
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        (build / "source").mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, build / "source")
    shutil.copytree(REPOSITORY / "src", build / "source/src", ignore=shutil.ignore_patterns("__pycache__"))
    for script in (REPOSITORY / "docker").glob("*.sh"):
        shutil.copy(script, build)
    for lock in (REPOSITORY / "requirements").glob("*.lock"):
        shutil.copy(lock, build)
    for certificates in _CERTIFICATES:
        if Path(certificates).exists():
            shutil.copy(certificates, build / "certificates.crt")
    _make_comfyui(build)
    _make_config(build)
    shutil.copy(shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv", path / "usr/local/bin/uv")
    shutil.copy("/etc/resolv.conf", path / "etc/resolv.conf")
    mounts = {"/dev": Path("/dev"), "/build": build}
    for name in ("entrypoint", "healthcheck"):
        shutil.copy(REPOSITORY / f"docker/{name}.sh", path / f"usr/local/bin/comfyworker-{name}")
    if _wheels() is not None:
        (path / "wheels-there").mkdir()
        mounts["/wheels-there"] = _wheels() or Path()
    for name in ("build", "app", "workspace"):
        (path / name).mkdir(exist_ok=True)
    return Root(path, mounts)


def step_environ(**variables: str) -> dict[str, str]:
    """Return what a step has in its environment: the image's, and what this machine's network wants."""
    found = {
        **image_environ(), "SSL_CERT_FILE": "/build/certificates.crt", "GIT_SSL_CAINFO": "/build/certificates.crt",
    }  # fmt: skip
    if _wheels() is not None:
        found["UV_FIND_LINKS"] = "/wheels-there"
    else:
        found |= {"UV_EXTRA_INDEX_URL": CPU_INDEX, "UV_INDEX_STRATEGY": "unsafe-best-match"}
    return {**found, **variables}


def _make_comfyui(build: Path) -> None:
    """Make a repository with ComfyUI's tree in the place of GitHub's, and a lock with a torch that needs no GPU.

    torchaudio is left out: PyPI has none that loads beside a torch without CUDA.
    """
    repository = GitRepository(build / "comfyui.git")
    copy_folder(find_install(os.environ).path, repository.path)
    requirements = (repository.path / "requirements.txt").read_text(encoding="utf-8")
    repository.commit({"requirements.txt": re.sub(r"^torchaudio\n", "", requirements, flags=re.MULTILINE)})
    repository.tag(TAG)
    wanted = (REPOSITORY / "requirements/comfyui.in").read_text(encoding="utf-8")
    wanted = re.sub(r"^torch==.*", "torch==2.13.0+cpu", wanted, flags=re.MULTILINE)
    wanted = re.sub(r"^torchvision==.*", "torchvision==0.28.0", wanted, flags=re.MULTILINE)
    wanted = re.sub(r"^torchaudio==.*\n", "", wanted, flags=re.MULTILINE)
    wanted = wanted.replace("-c ../", f"-c {REPOSITORY}/")
    (build / "cpu.in").write_text(wanted, encoding="utf-8")
    where = ["--find-links", str(_wheels())] if _wheels() else ["--extra-index-url", CPU_INDEX]
    subprocess.run(
        [
            Path(sys.executable).with_name("uv"), "pip", "compile", "--quiet", "--generate-hashes", *where,
            "--index-strategy", "unsafe-best-match", "--no-emit-index-url", "--python-version", "3.11",
            "--python-platform", "x86_64-manylinux_2_28", build / "cpu.in", "-o", build / "cpu.lock",
        ],
        check=True,
    )  # fmt: skip


def _make_config(build: Path) -> None:
    """Make a MODEL_TYPE `tiny`: one model and one custom node that lie on this disk."""
    pack = GitRepository(build / "greeting.git")
    pack.commit({"__init__.py": node_code(NODE_CLASS)})
    (build / "tiny.safetensors").write_bytes(struct.pack("<Q", len(_EMPTY_MODEL)) + _EMPTY_MODEL + bytes(4))
    (build / "source/configs").mkdir()
    (build / "source/configs/tiny.yml").write_text(
        "models:\n  - url: file:///build/tiny.safetensors\n    destination: checkpoints\n"
        "nodes:\n  - url: file:///build/greeting.git\n    version: nightly\n",
        encoding="utf-8",
    )


def _wheels() -> Path | None:
    """Return the folder that pip was told to look for wheels in, if a torch lies there."""
    folder = Path(os.environ.get("PIP_FIND_LINKS", ""))
    return folder if folder.is_absolute() and list(folder.glob("torch-*.whl")) else None
