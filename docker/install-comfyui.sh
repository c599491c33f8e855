#!/bin/sh
# ComfyUI at a tag, and its own environment beside it in FOLDER/.venv.
#
# install-comfyui.sh FOLDER LOCK_FILE
#
# COMFYUI_REPOSITORY and COMFYUI_REF say which one. LOCK_FILE has the packages of the version that the image is pinned
# to, by hash; another version's requirements.txt is followed where it asks for more, but never to another torch.
set -eu

folder=$1
lock=$2
repository=${COMFYUI_REPOSITORY:-https://github.com/comfyanonymous/ComfyUI}
ref=${COMFYUI_REF:-v0.3.75}
python=$folder/.venv/bin/python

# Fetched rather than cloned: so a commit can be named as well as a tag or a branch.
git init --quiet "$folder"
git -C "$folder" remote add origin "$repository"
GIT_TERMINAL_PROMPT=0 git -C "$folder" fetch --quiet --depth 1 --no-tags origin "$ref"
git -C "$folder" -c advice.detachedHead=false checkout --quiet --detach FETCH_HEAD

uv venv --quiet --python "${PYTHON:-/usr/bin/python3}" "$folder/.venv"
uv pip install --python "$python" --require-hashes --requirements "$lock"

torch=$(mktemp)
trap 'rm -f "$torch"' EXIT
uv pip freeze --python "$python" | grep -E '^(torch|torchvision|torchaudio|triton|nvidia-[a-z0-9-]+)==' >"$torch" || true
uv pip install --python "$python" --constraints "$torch" --requirements "$folder/requirements.txt"

# Without these folders ComfyUI does not start.
mkdir -p "$folder/custom_nodes" "$folder/input" "$folder/models" "$folder/output" "$folder/temp" "$folder/user"
# A container begins without caches each time, and would compile all of it at each start.
"$python" -m compileall -q -x '/\.venv/' "$folder"
