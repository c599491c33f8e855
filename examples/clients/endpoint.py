"""A RunPod endpoint, or a `comfyworker serve` in its place, with Python's standard library only.

Environment: RUNPOD_API_KEY, RUNPOD_ENDPOINT_ID, and RUNPOD_ENDPOINT_BASE_URL if it is not RunPod's own
(`http://127.0.0.1:8000/v2` for a server on this machine, where any key and any endpoint id do).
"""

import base64
import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

RUNPOD = "https://api.runpod.ai/v2"
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}
BUSY = {408, 429, 500, 502, 503, 504}


class EndpointError(Exception):
    """The endpoint did not do what it was asked; the text says why."""

    def __init__(self, text: str, *, is_passing: bool = False) -> None:
        super().__init__(text)
        self.is_passing = is_passing
        """Whether the same call may succeed later."""


class Endpoint:
    """One endpoint and the key for it."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        self._key = key

    @classmethod
    def from_environment(cls) -> "Endpoint":
        """Return the endpoint that the environment names."""
        missing = [name for name in ("RUNPOD_API_KEY", "RUNPOD_ENDPOINT_ID") if not os.environ.get(name)]
        if missing:
            raise EndpointError(f"set {' and '.join(missing)}")
        base = os.environ.get("RUNPOD_ENDPOINT_BASE_URL") or RUNPOD
        return cls(f"{base.rstrip('/')}/{os.environ['RUNPOD_ENDPOINT_ID']}", os.environ["RUNPOD_API_KEY"])

    def submit(self, request: dict[str, Any], route: str = "run", *, timeout_s: float = 60) -> dict[str, Any]:
        """Send a job to `/run` or `/runsync`; return the answer, which has the job's id and status.

        It is sent once: after a broken connection nobody knows whether the job was taken.
        """
        return self._call("POST", f"/{route}", request, timeout_s=timeout_s)

    def status(self, job_id: str, *, patience_s: float = 60) -> dict[str, Any]:
        """Return how a job stands; asks again for so many seconds while the endpoint cannot be reached or is busy."""
        deadline, pause_s = time.monotonic() + patience_s, 0.5
        while True:
            try:
                return self._call("GET", f"/status/{job_id}")
            except EndpointError as error:
                if not error.is_passing or time.monotonic() + pause_s > deadline:
                    raise
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 8)

    def wait(self, job_id: str, *, timeout_s: float) -> dict[str, Any]:
        """Ask for a job's status until it has ended; raises TimeoutError when that takes too long."""
        deadline, pause_s = time.monotonic() + timeout_s, 0.25
        while True:
            job = self.status(job_id)
            if job["status"] in ENDED:
                return job
            if time.monotonic() + pause_s > deadline:
                raise TimeoutError(f"job {job_id} is still {job['status']} after {timeout_s:g} s")
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 5)

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancel a job; cancelling twice does no harm."""
        return self._call("POST", f"/cancel/{job_id}")

    def _call(self, method: str, path: str, body: object = None, *, timeout_s: float = 60) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            raise EndpointError(f"HTTP {error.code}: {_reason(error)}", is_passing=error.code in BUSY) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise EndpointError(f"no answer: {getattr(error, 'reason', error)}", is_passing=True) from error


def output_of(job: dict[str, Any]) -> dict[str, Any]:
    """Return a finished job's output; raises with the worker's own words where it has failed."""
    if job["status"] != "COMPLETED":
        raise EndpointError(f"job {job['id']} {job['status']}: {job.get('error') or 'no reason was given'}")
    return dict(job.get("output") or {})


def save_files(output: dict[str, Any], folder: Path) -> list[Path]:
    """Write every file of an output into `folder`, from base64 or from its URL; return where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    saved = []
    for image in output.get("images", []):
        path = _free_path(folder / Path(image["filename"]).name)
        if image["type"] == "base64":
            path.write_bytes(base64.b64decode(image["data"]))
        else:
            with urllib.request.urlopen(image["data"], timeout=60) as answer, path.open("wb") as file:
                while chunk := answer.read(1 << 20):
                    file.write(chunk)
        saved.append(path)
    return saved


def _free_path(path: Path) -> Path:
    number, free = 2, path
    while free.exists():
        number, free = number + 1, path.with_stem(f"{path.stem}-{number}")
    return free


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        told = json.load(error)
    except ValueError:
        return str(error.reason)
    return str(told.get("error") or told) if isinstance(told, dict) else str(told)
