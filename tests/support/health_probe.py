"""Asks for /health again and again from a process of its own; prints how long each answer took, in seconds, at the end.

    python health_probe.py URL    # until its standard input is closed

A process of its own: what is measured is the server, not the event loop of a test that plays fifty clients.
"""

import http.client
import json
import select
import sys
import time
from urllib.parse import urlsplit

INTERVAL_S = 0.02


def main() -> None:
    """Ask until standard input is closed."""
    connection = http.client.HTTPConnection(urlsplit(sys.argv[1]).netloc, timeout=30)
    connection.connect()
    took_s = []
    print("begun", flush=True)
    while not select.select([sys.stdin], [], [], INTERVAL_S)[0]:
        begun_at = time.perf_counter()
        connection.request("GET", "/health")
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise SystemExit(f"/health answered {response.status}")
        took_s.append(time.perf_counter() - begun_at)
    print(json.dumps(took_s))


if __name__ == "__main__":
    main()
