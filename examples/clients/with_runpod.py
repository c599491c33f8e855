"""Submit, wait, save with RunPod's own library: `pip install runpod`, then `python with_runpod.py ../request.json`."""

import json
import os
import sys
from pathlib import Path

import runpod
from endpoint import EndpointError, output_of, save_files

TIMEOUT_S = 600


def main(request: Path) -> None:
    runpod.api_key = os.environ["RUNPOD_API_KEY"]
    job = runpod.Endpoint(os.environ["RUNPOD_ENDPOINT_ID"]).run(json.loads(request.read_text(encoding="utf-8")))
    try:
        job.output(timeout=TIMEOUT_S)
    except TimeoutError:
        job.cancel()
        raise
    # `output()` is None for a job that has failed; why it has is in its status.
    ended = job.rp_client.get(f"{job.endpoint_id}/status/{job.job_id}")
    for path in save_files(output_of(ended), Path("out")):
        print(path)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except (EndpointError, TimeoutError) as error:
        sys.exit(f"error: {error}")
