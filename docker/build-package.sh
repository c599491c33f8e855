#!/bin/sh
# The worker's own wheel.
#
# build-package.sh WHEELS SOURCE LOCK_FILE
#
# What builds it comes by hash, too. SOURCE may be mounted read-only: nothing is written into it.
set -eu

wheels=$1
source=$2
lock=$3

uv build --quiet --wheel --python "${PYTHON:-/usr/bin/python3}" --build-constraints "$lock" --require-hashes \
    --out-dir "$wheels" "$source"
