"""How a ComfyUI of ours is started: its command line, environment and folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.folders import Folders
from comfyworker.comfyui.locate import Installation
from comfyworker.comfyui.slots import folders_from_args, output_args
from comfyworker.settings import ComfyUISettings, list_settings, process_environment

_NEEDED = ("custom_nodes", "user", "input", "output", "models")
# What belongs to the worker's own interpreter would lead ComfyUI's astray.
_OWN_PYTHON = frozenset({"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__"})
# Node packs fetch models of their own from Hugging Face, whose library reads these.
_FOR_NODES = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})


class LaunchPlan(BaseModel):
    """Everything that is needed to start one ComfyUI."""

    model_config = ConfigDict(frozen=True)

    command: tuple[str, ...]
    environment: dict[str, str]
    cwd: Path
    url: str
    folders: Folders


def plan_launch(  # noqa: PLR0913  # what differs between ComfyUIs that are started together
    installation: Installation,
    settings: ComfyUISettings,
    *,
    port: int,
    slot: int,
    gpu: str | None,
    use_cpu: bool,
    extra_paths: Path | None = None,
) -> LaunchPlan:
    """Return how to start `installation` on `port`.

    Folders that ComfyUI must find at its start are made: without custom_nodes it dies, without user its database fails.

    Args:
        installation: The ComfyUI to start.
        settings: Flags and log level.
        port: A free TCP port on the loopback address.
        slot: Which of the ComfyUIs on the same folders this is.
        gpu: The one GPU that it shall see (CUDA_VISIBLE_DEVICES); None leaves that as it is.
        use_cpu: Whether it shall compute without a GPU; without `--cpu` it would die where there is none.
        extra_paths: A file with more model folders; what COMFYUI_ARGS names of that kind is read too, and first.
    """
    base_dir = installation.base_dir
    for name in _NEEDED:
        (base_dir / name).mkdir(parents=True, exist_ok=True)
    args = (*_base_args(installation), *settings.args)
    # Of a flag that is there twice ComfyUI takes the last: what keeps ComfyUIs apart comes behind COMFYUI_ARGS.
    args = (*args, *output_args(folders_from_args(base_dir, args), slot))
    folders = folders_from_args(base_dir, args)
    for folder in (folders.output, folders.input):
        folder.mkdir(parents=True, exist_ok=True)
    own = ["--disable-auto-launch", "--listen", "127.0.0.1", "--verbose", settings.log_level]
    if use_cpu and "--cpu" not in settings.args:
        own.append("--cpu")
    if settings.preview_method is not None:
        own += ["--preview-method", settings.preview_method]
    # ComfyUI takes this flag several times, with several files each, which our `--port` ends.
    extra = () if extra_paths is None else ("--extra-model-paths-config", str(extra_paths))
    return LaunchPlan(
        command=tuple(installation.command([*own, *args, *extra, "--port", str(port)])),
        environment=child_environment(process_environment(), gpu=gpu),
        cwd=base_dir,
        url=f"http://127.0.0.1:{port}",
        folders=folders,
    )


def child_environment(environ: Mapping[str, str], *, gpu: str | None) -> dict[str, str]:
    """Return the environment for ComfyUI: the worker's, without its own secrets and its interpreter's variables."""
    secrets = {name for entry in list_settings() if entry.is_secret for name in entry.names} - _FOR_NODES
    child = {name: value for name, value in environ.items() if name not in secrets | _OWN_PYTHON}
    child["PYTHONUNBUFFERED"] = "1"
    if gpu is not None:
        child["CUDA_VISIBLE_DEVICES"] = gpu
    return child


def _base_args(installation: Installation) -> Sequence[str]:
    # ComfyUI's own folder is its default base; naming it again would hide that from `comfyworker doctor`'s reader.
    return () if installation.base_dir == installation.path else ("--base-directory", str(installation.base_dir))
