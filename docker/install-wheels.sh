#!/bin/sh
# Wheels that were built for an environment, if there are any; what they need is in it already.
#
# install-wheels.sh ENVIRONMENT WHEELS
set -eu

environment=$1
wheels=$2

set -- "$wheels"/*.whl
if [ -e "$1" ]; then
    uv pip install --quiet --python "$environment/bin/python" --no-deps --reinstall "$@"
fi
