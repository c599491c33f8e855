#!/bin/sh
# The custom nodes of MODEL_TYPE, in ComfyUI's folder, with their packages in its environment.
#
# bake-nodes.sh SOURCE
set -eu

config=$("$(dirname "$0")/which-config.sh" "$1")
if [ -z "$config" ]; then
    exit 0
fi
# What the worker notes beside a config is for whoever has written it; here it is thrown away.
asked=$(mktemp -d)
trap 'rm -rf "$asked"' EXIT
cp "$config" "$asked/config.yml"
comfyworker config apply --only nodes --file "$asked/config.yml"
