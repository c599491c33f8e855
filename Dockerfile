# syntax=docker/dockerfile:1.10
# The image of comfyworker, for linux/amd64. docs/howto/build-the-image.md says how it is built.
#
# What each step does stands in docker/*.sh, which tests run without Docker. The steps are in the order of how seldom
# they change: the system, ComfyUI with torch, the worker's packages, then its code.

ARG BASE_IMAGE=nvidia/cuda:12.8.1-base-ubuntu24.04
ARG DEVEL_IMAGE=nvidia/cuda:12.8.1-devel-ubuntu24.04
ARG SAGE_ATTENTION=false
ARG COMFYUI_REF=v0.3.75
ARG MODEL_TYPE=base

FROM ghcr.io/astral-sh/uv:0.13.8 AS uv


# The `base` flavour has CUDA's runtime and no more: torch's packages bring the rest of CUDA 12.8 along.
FROM ${BASE_IMAGE} AS system
ENV PYTHONUNBUFFERED=1 \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never
ARG SSHD=false
ARG SAGE_ATTENTION
RUN --mount=type=bind,source=docker/install-system.sh,target=/build/install-system.sh \
    /build/install-system.sh


FROM system AS worker
RUN --mount=type=bind,from=uv,source=/uv,target=/usr/local/bin/uv \
    --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=docker/install-worker.sh,target=/build/install-worker.sh \
    --mount=type=bind,source=requirements/runpod.lock,target=/build/runpod.lock \
    /build/install-worker.sh /opt/comfyworker /build/runpod.lock


FROM system AS package
RUN --mount=type=bind,from=uv,source=/uv,target=/usr/local/bin/uv \
    --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=docker/build-package.sh,target=/build/build-package.sh \
    --mount=type=bind,source=requirements/dev.lock,target=/build/dev.lock \
    --mount=type=bind,source=LICENSE,target=/build/source/LICENSE \
    --mount=type=bind,source=README.md,target=/build/source/README.md \
    --mount=type=bind,source=pyproject.toml,target=/build/source/pyproject.toml \
    --mount=type=bind,source=src,target=/build/source/src \
    /build/build-package.sh /wheels /build/source /build/dev.lock


# Models of MODEL_TYPE. They are fetched into a cache of the builder, so a change of our code copies them once more, but
# fetches nothing; and where the copy is the same, so is the layer.
FROM worker AS models
ENV PATH=/opt/comfyworker/bin:$PATH
RUN --mount=type=bind,from=uv,source=/uv,target=/usr/local/bin/uv \
    --mount=type=bind,from=package,source=/wheels,target=/wheels \
    --mount=type=bind,source=docker/install-wheels.sh,target=/build/install-wheels.sh \
    /build/install-wheels.sh /opt/comfyworker /wheels
ARG MODEL_TYPE
RUN --mount=type=cache,id=comfyworker-models,sharing=locked,target=/var/cache/models \
    --mount=type=bind,source=docker/bake-models.sh,target=/build/bake-models.sh \
    --mount=type=bind,source=docker/which-config.sh,target=/build/which-config.sh \
    --mount=type=bind,source=config.yml,target=/build/source/config.yml \
    --mount=type=bind,source=configs,target=/build/source/configs \
    --mount=type=secret,id=HF_TOKEN,env=HF_TOKEN \
    --mount=type=secret,id=CIVITAI_TOKEN,env=CIVITAI_TOKEN \
    /build/bake-models.sh /baked /build/source "/var/cache/models/$MODEL_TYPE"


# SageAttention is compiled in a stage of its own, and only where it is asked for.
FROM ${DEVEL_IMAGE} AS sageattention-true
ENV UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never
ARG SAGE_ATTENTION_REPOSITORY=https://github.com/thu-ml/SageAttention
ARG SAGE_ATTENTION_REF=v2.2.0
ARG TORCH_CUDA_ARCH_LIST="8.0;8.6;8.9;9.0;12.0"
ARG EXT_PARALLEL=2
ARG MAX_JOBS=4
RUN --mount=type=bind,from=uv,source=/uv,target=/usr/local/bin/uv \
    --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=docker/build-sageattention.sh,target=/build/build-sageattention.sh \
    --mount=type=bind,source=requirements/comfyui.lock,target=/build/comfyui.lock \
    /build/build-sageattention.sh /wheels /build/comfyui.lock

FROM system AS sageattention-false
WORKDIR /wheels

# hadolint ignore=DL3006
FROM sageattention-${SAGE_ATTENTION} AS sageattention


FROM system AS comfyui
ARG COMFYUI_REPOSITORY=https://github.com/comfyanonymous/ComfyUI
ARG COMFYUI_REF
RUN --mount=type=bind,from=uv,source=/uv,target=/usr/local/bin/uv \
    --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=docker/install-comfyui.sh,target=/build/install-comfyui.sh \
    --mount=type=bind,source=requirements/comfyui.lock,target=/build/comfyui.lock \
    /build/install-comfyui.sh /comfyui /build/comfyui.lock
RUN --mount=type=bind,from=uv,source=/uv,target=/usr/local/bin/uv \
    --mount=type=bind,from=sageattention,source=/wheels,target=/wheels \
    --mount=type=bind,source=docker/install-wheels.sh,target=/build/install-wheels.sh \
    /build/install-wheels.sh /comfyui/.venv /wheels


FROM comfyui AS image
ARG JUPYTER=false
RUN --mount=type=bind,from=uv,source=/uv,target=/usr/local/bin/uv \
    --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=docker/install-jupyter.sh,target=/build/install-jupyter.sh \
    --mount=type=bind,source=requirements/jupyter.lock,target=/build/jupyter.lock \
    /build/install-jupyter.sh /opt/jupyter /build/jupyter.lock

COPY --link docker/entrypoint.sh /usr/local/bin/comfyworker-entrypoint
COPY --link docker/healthcheck.sh /usr/local/bin/comfyworker-healthcheck
COPY --link --from=models /baked/ /comfyui/
COPY --link --from=worker /opt/comfyworker/ /opt/comfyworker/

ENV COMFYUI_IMAGE_PATH=/comfyui \
    PATH=/opt/comfyworker/bin:$PATH
WORKDIR /app
RUN --mount=type=bind,from=uv,source=/uv,target=/usr/local/bin/uv \
    --mount=type=bind,from=package,source=/wheels,target=/wheels \
    --mount=type=bind,source=docker/install-wheels.sh,target=/build/install-wheels.sh \
    /build/install-wheels.sh /opt/comfyworker /wheels
ARG MODEL_TYPE
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=docker/bake-nodes.sh,target=/build/bake-nodes.sh \
    --mount=type=bind,source=docker/which-config.sh,target=/build/which-config.sh \
    --mount=type=bind,source=config.yml,target=/build/source/config.yml \
    --mount=type=bind,source=configs,target=/build/source/configs \
    --mount=type=secret,id=GITHUB_TOKEN,env=GITHUB_TOKEN \
    /build/bake-nodes.sh /build/source

EXPOSE 8000 8188 8888
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "comfyworker-entrypoint"]
CMD ["comfyworker", "start"]

ARG VERSION=dev
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG COMFYUI_REF
LABEL org.opencontainers.image.title="comfyworker" \
      org.opencontainers.image.description="The worker that turns a ComfyUI into a dependable API" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/nvidia/cuda:12.8.1-base-ubuntu24.04" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      comfyworker.comfyui="${COMFYUI_REF}" \
      comfyworker.model-type="${MODEL_TYPE}"
