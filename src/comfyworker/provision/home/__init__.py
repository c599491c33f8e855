"""Where ComfyUI lives: placed there at the first start, brought to other versions, and back."""

from comfyworker.provision.home.settling import settle_comfyui
from comfyworker.provision.home.status import HomeStatus, look_at_home
from comfyworker.provision.home.updating import Update, Updater

__all__ = ["HomeStatus", "Update", "Updater", "look_at_home", "settle_comfyui"]
