"""Cancel jobs, whether they wait or run, and say how each stands then: `python cancel.py JOB_ID [JOB_ID ...]`."""

import sys

from endpoint import Endpoint, EndpointError


def main(job_ids: list[str]) -> None:
    if not job_ids:
        sys.exit("usage: python cancel.py JOB_ID [JOB_ID ...]")
    endpoint = Endpoint.from_environment()
    for job_id in job_ids:
        print(job_id, endpoint.cancel(job_id)["status"])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except EndpointError as error:
        sys.exit(f"error: {error}")
