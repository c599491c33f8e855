"""Every environment variable of the worker, once.

Nothing else reads the environment, or `.secrets` and `.env`. Parts of what `load_settings()` returns are passed down:
the delivery room gets `DeliverySettings`, never `Settings`.
"""

from comfyworker.settings.dotenv import SettingFile, read_setting_files
from comfyworker.settings.groups import (
    ComfyUISettings,
    InputSettings,
    JobSettings,
    LogSettings,
    ModifierSettings,
    ShutdownSettings,
)
from comfyworker.settings.http import HttpSettings
from comfyworker.settings.loading import (
    SettingEntry,
    Settings,
    environment_names,
    exposed_files,
    list_settings,
    load_settings,
    near_misses,
    process_environment,
    set_environment_defaults,
    values_of_files,
)
from comfyworker.settings.outward import DeliverySettings, StateSettings, StoreSettings, WebhookSettings
from comfyworker.settings.platform import PlatformSettings
from comfyworker.settings.provision import ProvisionSettings
from comfyworker.settings.runpod import RunPodSettings
from comfyworker.settings.service import QueueSettings
from comfyworker.settings.vast import VastSettings
from comfyworker.settings.volume import VolumeSettings

__all__ = [
    "ComfyUISettings",
    "DeliverySettings",
    "HttpSettings",
    "InputSettings",
    "JobSettings",
    "LogSettings",
    "ModifierSettings",
    "PlatformSettings",
    "ProvisionSettings",
    "QueueSettings",
    "RunPodSettings",
    "SettingEntry",
    "SettingFile",
    "Settings",
    "ShutdownSettings",
    "StateSettings",
    "StoreSettings",
    "VastSettings",
    "VolumeSettings",
    "WebhookSettings",
    "environment_names",
    "exposed_files",
    "list_settings",
    "load_settings",
    "near_misses",
    "process_environment",
    "read_setting_files",
    "set_environment_defaults",
    "values_of_files",
]
