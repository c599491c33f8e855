#!/bin/sh
# SageAttention's wheel, compiled for the GPUs of TORCH_CUDA_ARCH_LIST. Needs nvcc, but no GPU; PyPI has only its first
# version. Runs in a stage of its own, of which nothing but the wheel is kept.
#
# build-sageattention.sh FOLDER LOCK_FILE
set -eu

wheels=$1
lock=$2
repository=${SAGE_ATTENTION_REPOSITORY:-https://github.com/thu-ml/SageAttention}
ref=${SAGE_ATTENTION_REF:-v2.2.0}

export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -qy --no-install-recommends git ninja-build python3-dev python3-venv
rm -rf /var/lib/apt/lists/*

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
git init --quiet "$build/source"
git -C "$build/source" remote add origin "$repository"
GIT_TERMINAL_PROMPT=0 git -C "$build/source" fetch --quiet --depth 1 --no-tags origin "$ref"
git -C "$build/source" -c advice.detachedHead=false checkout --quiet --detach FETCH_HEAD

# The same torch as ComfyUI's: the extension fits no other.
uv venv --quiet --python /usr/bin/python3 "$build/venv"
uv pip install --python "$build/venv/bin/python" --require-hashes --requirements "$lock"
uv pip install --python "$build/venv/bin/python" 'setuptools==80.9.0' 'packaging==25.0' 'ninja==1.13.0'
PATH="$build/venv/bin:$PATH" uv build --wheel --python "$build/venv/bin/python" --no-build-isolation \
    --out-dir "$wheels" "$build/source"
