#!/bin/sh
# The models of MODEL_TYPE, in FOLDER/models with the worker's note of them, to be laid over ComfyUI's folder.
#
# bake-models.sh FOLDER SOURCE CACHE
#
# They are fetched into CACHE, which outlives the build, and copied. HF_TOKEN and CIVITAI_TOKEN come from the build's
# secrets and end with this step: nothing that is written holds them.
set -eu

folder=$1
source=$2
cache=$3

mkdir -p "$folder/models"
config=$("$(dirname "$0")/which-config.sh" "$source")
if [ -z "$config" ]; then
    exit 0
fi

# What the worker notes beside a config is for whoever has written it; here it is thrown away.
asked=$(mktemp -d)
trap 'rm -rf "$asked"' EXIT
cp "$config" "$asked/config.yml"

apply() {
    COMFYUI_BASE_DIR=$1 comfyworker config apply --only models --file "$asked/config.yml"
}

mkdir -p "$cache/models"
apply "$cache"
cp -R "$cache/models/." "$folder/models/"
# A layer keeps times in whole seconds, and equal ones make an equal layer. The worker knows its models by their times,
# so it looks at them again as they will be.
find "$folder" -exec touch --no-dereference --date='2025-01-01T00:00:00Z' {} +
apply "$folder"
