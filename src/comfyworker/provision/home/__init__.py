"""Where ComfyUI lives: placed there at the first start, brought to other versions, and back."""

from comfyworker.provision.home.settling import settle_comfyui
from comfyworker.provision.home.updating import Updater

__all__ = ["Updater", "settle_comfyui"]
