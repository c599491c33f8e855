"""A RunPod Serverless endpoint of an image, by RunPod's REST API.

Wire source: RunPod's documentation of `POST /templates` and `POST /endpoints`, version 1.
"""

from __future__ import annotations

import json
import shlex
import urllib.error
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

_CUDA = ("12.8", "12.9", "13.0")
_GPUS = ("NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 5090", "NVIDIA RTX A6000", "NVIDIA L40S")
_DISK_GB = 30
_MOST_WORKERS = 3
_LIMIT_S = 60.0
_CONSOLE = "https://console.runpod.io/serverless"


@dataclass(frozen=True)
class EndpointPlan:
    """An endpoint that is to be made."""

    name: str
    """Its name; empty if none is to be made now."""
    image: str
    """The image with its tag."""

    def template(self) -> dict[str, Any]:
        """Return what `POST /templates` takes."""
        named = self.name or "comfyworker"
        return {"name": named, "imageName": self.image, "isServerless": True, "containerDiskInGb": _DISK_GB, "env": {}}

    def endpoint(self, template_id: str) -> dict[str, Any]:
        """Return what `POST /endpoints` takes: no worker waits, and nothing costs while there are no jobs."""
        return {
            "name": self.name or "comfyworker", "templateId": template_id, "computeType": "GPU", "gpuCount": 1,
            "gpuTypeIds": list(_GPUS), "allowedCudaVersions": list(_CUDA), "workersMin": 0,
            "workersMax": _MOST_WORKERS, "idleTimeout": 5, "scalerType": "QUEUE_DELAY", "scalerValue": 4,
        }  # fmt: skip


def how_to_create(plan: EndpointPlan) -> str:
    """Return how a person makes the endpoint: in the console, or by two calls."""
    calls = [_curl("templates", plan.template()), _curl("endpoints", plan.endpoint("ID_OF_THE_TEMPLATE"))]
    return "\n".join(
        [
            "",
            f"The endpoint: in {_CONSOLE}, New Endpoint, Import from Docker Registry,",
            f"  image {plan.image}, container disk {_DISK_GB} GB, CUDA {' or '.join(_CUDA)}",
            "or `make deploy … ENDPOINT=NAME` with RUNPOD_API_KEY set, which makes these calls:",
            *calls,
        ]
    )


def create_endpoint(plan: EndpointPlan, *, key: str, url: str) -> str:
    """Make a template and an endpoint of it; return what to tell.

    Raises:
        OSError: RunPod did not make it; the message says what it said.
    """
    template = _post(f"{url}/templates", plan.template(), key)
    endpoint = _post(f"{url}/endpoints", plan.endpoint(str(template["id"])), key)
    return (
        f"The endpoint {plan.name} is there: {_CONSOLE}/user/endpoint/{endpoint['id']}\n"
        f"Settings (buckets, webhooks, …) are its environment variables. Try it:\n"
        f'  curl -s https://api.runpod.ai/v2/{endpoint["id"]}/runsync -H "Authorization: Bearer $RUNPOD_API_KEY" '
        "-H 'Content-Type: application/json' -d @examples/request.json"
    )


def _post(url: str, body: dict[str, Any], key: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    what = url.rpartition("/")[2]
    try:
        with urllib.request.urlopen(request, timeout=_LIMIT_S) as answer:
            told = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            reason = error.read(2000).decode(errors="replace").strip()
        if error.code == HTTPStatus.UNAUTHORIZED:
            reason = "RUNPOD_API_KEY is not taken"
        message = f"POST /{what} was answered with {error.code}: {reason}"
        raise OSError(message) from error
    except ValueError as error:
        message = f"POST /{what} was answered with something that is no JSON"
        raise OSError(message) from error
    if not isinstance(told, dict) or "id" not in told:
        message = f"POST /{what} was answered without an id"
        raise OSError(message)
    return told


def _curl(what: str, body: dict[str, Any]) -> str:
    head = f'  curl -s https://rest.runpod.io/v1/{what} -H "Authorization: Bearer $RUNPOD_API_KEY"'
    return f"{head} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"
