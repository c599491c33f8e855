#!/bin/sh
# Whether the worker's server takes jobs: for containers that serve HTTP, as the compose file's do.
set -eu

exec /usr/bin/python3 -I -c '
import os, sys, urllib.error, urllib.request

port = os.environ.get("SERVE_PORT") or "8000"
try:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=4) as answer:
        sys.exit(answer.status != 200)
except (OSError, ValueError) as error:
    sys.exit(f"not ready: {error}")
'
