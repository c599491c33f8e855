"""Submit a job with /run, ask for its status until it has ended, save its files.

    python run.py ../request.json --output pictures --timeout 600

Ctrl-C and a timeout cancel the job. Exit code 0 when the job succeeded, 1 when not, 130 after Ctrl-C.
"""

import argparse
import json
import sys
from pathlib import Path

from endpoint import Endpoint, EndpointError, output_of, save_files


def main() -> int:
    options = argparse.ArgumentParser(description="Run a job on an endpoint and save its files.")
    options.add_argument("request", type=Path, help='a JSON file: {"input": {"workflow": {...}}}')
    options.add_argument("--output", type=Path, default=Path("out"), help="folder for the files")
    options.add_argument("--timeout", type=float, default=600, help="seconds within which the job must be done")
    given = options.parse_args()

    endpoint, job_id = Endpoint.from_environment(), ""
    try:
        job_id = endpoint.submit(json.loads(given.request.read_text(encoding="utf-8")))["id"]
        print(f"job {job_id} was taken", file=sys.stderr)
        job = endpoint.wait(job_id, timeout_s=given.timeout)
    except (TimeoutError, KeyboardInterrupt) as error:
        if job_id:
            print(f"job {job_id}: {endpoint.cancel(job_id)['status']}", file=sys.stderr)
        if isinstance(error, KeyboardInterrupt):
            return 130
        raise
    for path in save_files(output_of(job), given.output):
        print(path)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (EndpointError, TimeoutError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
