#!/bin/sh
# Jupyter Lab with an environment of its own, where JUPYTER=true.
#
# install-jupyter.sh FOLDER LOCK_FILE
set -eu

environment=$1
lock=$2

if [ "${JUPYTER:-false}" != true ]; then
    exit 0
fi
uv venv --quiet --python "${PYTHON:-/usr/bin/python3}" "$environment"
uv pip install --python "$environment/bin/python" --require-hashes --requirements "$lock"
