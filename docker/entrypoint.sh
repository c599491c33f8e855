#!/bin/sh
# The image's entrypoint: starts the side services that were asked for, then becomes the command.
#
# PUBLIC_KEY          an SSH server for this key, on port 22
# JUPYTER_PASSWORD    Jupyter Lab with this password, on port 8888
# JUPYTER=true        Jupyter Lab with a token of its own, which its log tells
set -eu

say() {
    echo "entrypoint: $1" >&2
}

# ComfyUI allocates and frees large tensors on the CPU: tcmalloc gives their memory back sooner.
preload_tcmalloc() {
    if [ -n "${LD_PRELOAD:-}" ]; then
        return
    fi
    library=$(ldconfig -p | sed -n 's/.*=> \(.*libtcmalloc_minimal\.so\.[0-9]*\)$/\1/p' | head -n 1)
    if [ -n "$library" ]; then
        export LD_PRELOAD="$library"
    fi
}

start_sshd() {
    if [ -z "${PUBLIC_KEY:-}" ]; then
        return
    fi
    if [ ! -x /usr/sbin/sshd ]; then
        say 'PUBLIC_KEY is set, but this image was built without SSHD=true: there is no SSH server'
        return
    fi
    mkdir -p /run/sshd "$HOME/.ssh"
    chmod 700 "$HOME/.ssh"
    echo "$PUBLIC_KEY" >"$HOME/.ssh/authorized_keys"
    chmod 600 "$HOME/.ssh/authorized_keys"
    ssh-keygen -A >/dev/null
    # A session begins with an environment of its own, in which `comfyworker` would not be found.
    /usr/sbin/sshd -p "${SSH_PORT:-22}" -o PasswordAuthentication=no -o KbdInteractiveAuthentication=no \
        -o "SetEnv=PATH=$PATH COMFYUI_IMAGE_PATH=${COMFYUI_IMAGE_PATH:-} COMFYUI_HOME=${COMFYUI_HOME:-}"
    say "the SSH server listens on port ${SSH_PORT:-22}"
}

start_jupyter() {
    if [ -z "${JUPYTER_PASSWORD:-}" ] && [ "${JUPYTER:-false}" != true ]; then
        return
    fi
    if [ ! -x /opt/jupyter/bin/jupyter ]; then
        say 'Jupyter Lab is asked for, but this image was built without JUPYTER=true'
        return
    fi
    for root in /workspace /runpod-volume /; do
        if [ -d "$root" ]; then
            break
        fi
    done
    # A shell between the two ends at once, so that Jupyter becomes a child of the init and not of the worker. What it
    # asks for stands in its environment, since everybody on the machine can read a command line.
    (
        if [ -n "${JUPYTER_PASSWORD:-}" ]; then
            export JUPYTER_TOKEN="$JUPYTER_PASSWORD"
        fi
        /opt/jupyter/bin/jupyter lab --allow-root --no-browser --ip=0.0.0.0 --port="${JUPYTER_PORT:-8888}" \
            --ServerApp.root_dir="$root" --ServerApp.allow_origin_pat='https://.*\.proxy\.runpod\.net' >&2 &
    )
    say "Jupyter Lab starts on port ${JUPYTER_PORT:-8888}, in $root"
}

preload_tcmalloc
start_sshd
start_jupyter
unset JUPYTER_PASSWORD
exec "$@"
