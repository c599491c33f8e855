#!/bin/sh
# Debian's or Ubuntu's packages that the image needs at run time. No compiler is among them, but where Triton is wanted:
# it compiles the launchers of its kernels when they are first called, on the machine with the GPU.
#
# SSHD=true brings an SSH server, SAGE_ATTENTION=true a C compiler with Python's headers.
set -eu

packages='ca-certificates ffmpeg git libgl1 libglib2.0-0 libtcmalloc-minimal4 python3 python3-venv tini'
if [ "${SSHD:-false}" = true ]; then
    packages="$packages openssh-server"
fi
if [ "${SAGE_ATTENTION:-false}" = true ]; then
    packages="$packages gcc libc6-dev python3-dev"
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086 # a list of words
apt-get install -qy --no-install-recommends $packages
rm -rf /var/lib/apt/lists/*
# The package made host keys; in an image everybody would have the same ones. The entrypoint makes new ones.
rm -f /etc/ssh/ssh_host_*
