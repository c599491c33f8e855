"""Send a job with /runsync, which answers when it has ended, and save its files.

    python runsync.py ../request.json --output pictures

For jobs of seconds: RunPod answers after about 90 seconds at the latest, then with a job that still runs, and this
client goes on asking for its status. Answers of /runsync may have 20 MB, and are kept for a minute.
"""

import argparse
import json
import sys
from pathlib import Path

from endpoint import ENDED, Endpoint, EndpointError, output_of, save_files


def main() -> None:
    options = argparse.ArgumentParser(description="Run a job on an endpoint in one request and save its files.")
    options.add_argument("request", type=Path, help='a JSON file: {"input": {"workflow": {...}}}')
    options.add_argument("--output", type=Path, default=Path("out"), help="folder for the files")
    options.add_argument("--timeout", type=float, default=300, help="seconds within which the job must be done")
    given = options.parse_args()

    endpoint = Endpoint.from_environment()
    request = json.loads(given.request.read_text(encoding="utf-8"))
    job = endpoint.submit(request, "runsync", timeout_s=min(given.timeout, 120))
    if job["status"] not in ENDED:
        job = endpoint.wait(job["id"], timeout_s=given.timeout)
    for path in save_files(output_of(job), given.output):
        print(path)


if __name__ == "__main__":
    try:
        main()
    except (EndpointError, TimeoutError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
