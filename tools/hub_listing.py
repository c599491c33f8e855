"""What RunPod's Hub is told of the worker: its entry, the variables that a user sets there, and the test of a release.

Schema: RunPod's documentation, "Hub publishing guide". What a variable means is said once, in the settings.
"""

import json
from pathlib import Path
from typing import Any

from comfyworker.settings import SettingEntry, list_settings

_WORKFLOW = Path(__file__).resolve().parent.parent / "examples" / "sunset.json"
_TEST_GPU = "NVIDIA GeForce RTX 4090"
_CUDA = ["13.0", "12.9", "12.8"]
# A release's first job waits for the image and for ComfyUI's start.
_TEST_LIMIT_MS = 600_000

_SHOWN = {
    "BUCKET_ENDPOINT_URL": "Bucket: endpoint",
    "BUCKET_NAME": "Bucket: name",
    "BUCKET_ACCESS_KEY_ID": "Bucket: access key",
    "BUCKET_SECRET_ACCESS_KEY": "Bucket: secret key",
    "COMFY_ORG_API_KEY": "Comfy.org API key",
}
"""The variables that are seen at once, by name, with what the Hub calls them."""
_ADVANCED = {
    "BUCKET_REGION": "Bucket: region",
    "BUCKET_KEY_TEMPLATE": "Bucket: key of each object",
    "BUCKET_PUBLIC_URL": "Bucket: public URL",
    "OUTPUT_FORMAT": "Picture format",
    "OUTPUT_QUALITY": "Picture quality",
    "STRIP_METADATA": "Strip metadata",
    "RESPONSE_FORMAT": "Answer format",
    "STREAM_OUTPUTS": "Stream outputs",
    "REFRESH_WORKER": "Refresh worker",
    "JOB_TIMEOUT_S": "Job timeout",
    "WEBHOOK_URL": "Webhook URL",
    "WEBHOOK_SECRET": "Webhook secret",
    "COMFYUI_ARGS": "ComfyUI flags",
    "NETWORK_VOLUME_DEBUG": "Debug the network volume",
    "LOG_LEVEL": "Log level",
    "COMFY_LOG_LEVEL": "ComfyUI log level",
    "WEBSOCKET_RECONNECT_ATTEMPTS": "WebSocket attempts",
    "WEBSOCKET_RECONNECT_DELAY_S": "WebSocket delay",
    "WEBSOCKET_TRACE": "WebSocket trace",
}
"""The variables that are seen with the advanced ones."""
_PRESETS: dict[str, dict[str, object]] = {
    "Pictures as ComfyUI saves them": {},
    "Small answers (WebP)": {"OUTPUT_FORMAT": "webp", "OUTPUT_QUALITY": 90, "STRIP_METADATA": True},
    "A fresh worker for each job": {"REFRESH_WORKER": True},
    "Find out about the network volume": {"NETWORK_VOLUME_DEBUG": True, "LOG_LEVEL": "debug"},
}


def hub_json() -> str:
    """Return .runpod/hub.json."""
    entries = {name: entry for entry in list_settings() for name in entry.names[:1]}
    inputs = [_variable(entries[name], label, is_advanced=False) for name, label in _SHOWN.items()]
    inputs += [_variable(entries[name], label, is_advanced=True) for name, label in _ADVANCED.items()]
    return _json(
        {
            "title": "comfyworker",
            "description": "Run any ComfyUI workflow as an API: pictures, video and audio as base64 or in your bucket, "
            "errors that say what to do, models from a network volume.",
            "type": "serverless",
            "category": "image",
            "config": {
                "runsOn": "GPU",
                "containerDiskInGb": 30,
                "gpuCount": 1,
                "gpuIds": "ADA_24,ADA_32_PRO,AMPERE_24,ADA_48_PRO,AMPERE_48,AMPERE_80,ADA_80_PRO",
                "allowedCudaVersions": _CUDA,
                "presets": [{"name": name, "defaults": defaults} for name, defaults in _PRESETS.items()],
                "env": inputs,
            },
        }
    )


def tests_json() -> str:
    """Return .runpod/tests.json: a job that needs no model, since the Hub's tests see no network volume."""
    test = {"name": "makes_a_picture_without_a_model", "input": {"workflow": _workflow()}, "timeout": _TEST_LIMIT_MS}
    return _json({"tests": [test], "config": {"gpuTypeId": _TEST_GPU, "gpuCount": 1, "allowedCudaVersions": _CUDA}})


def test_input_json() -> str:
    """Return test_input.json, the job of `comfyworker test`: the same as the Hub's."""
    return _json({"input": {"workflow": _workflow()}})


def _workflow() -> dict[str, Any]:  # Any: JSON
    return dict(json.loads(_WORKFLOW.read_text(encoding="utf-8")))


def _variable(entry: SettingEntry, label: str, *, is_advanced: bool) -> dict[str, object]:
    """Return one variable in the Hub's form, with the setting's own meaning, type and default."""
    about: dict[str, object] = {"name": label, "description": entry.description, "advanced": is_advanced}
    if entry.type_name == "true | false":
        about |= {"type": "boolean", "default": entry.default == "True", "trueValue": "true", "falseValue": "false"}
    elif entry.type_name in ("integer", "number"):
        about |= {"type": "number"} | ({"default": _number(entry.default)} if entry.default else {})
    else:
        about |= {"type": "string", "default": entry.default}
    if " | " in entry.type_name and about["type"] == "string":
        choices = [{"label": choice, "value": choice} for choice in entry.type_name.split(" | ")]
        unset = [] if entry.default else [{"label": "as it is", "value": ""}]
        about["options"] = [*unset, *choices]
    return {"key": entry.names[0], "input": about}


def _number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number


def _json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
