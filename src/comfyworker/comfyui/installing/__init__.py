"""Making a ComfyUI with an environment of its own, from git, from the packaged tree or from a folder."""

from comfyworker.comfyui.installing.install import install_comfyui
from comfyworker.comfyui.installing.protocol import InstallReporter
from comfyworker.comfyui.installing.request import InstallOutcome, InstallRequest

__all__ = ["InstallOutcome", "InstallReporter", "InstallRequest", "install_comfyui"]
