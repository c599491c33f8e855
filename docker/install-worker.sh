#!/bin/sh
# The worker's environment: every package that it needs, by hash, but not the worker itself.
#
# install-worker.sh FOLDER LOCK_FILE
set -eu

environment=$1
lock=$2

uv venv --quiet --python "${PYTHON:-/usr/bin/python3}" "$environment"
uv pip install --python "$environment/bin/python" --require-hashes --requirements "$lock"
