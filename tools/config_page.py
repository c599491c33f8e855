"""docs/reference/config-yml.md, from the schema of config.yml."""

from collections.abc import Iterator
from typing import Any

from comfyworker.provision.config.schema import json_schema

_EXAMPLE = """\
```yaml
models:
  - url: https://huggingface.co/stabilityai/sdxl-vae/resolve/main/sdxl_vae.safetensors
    destination: vae
  - url: s3://comfyui-models/loras/wan/detail.safetensors
    destination: loras/wan
    sha256: 5a2f3c1e9b7d4f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8
    optional: true
nodes:
  - url: https://github.com/ltdrdata/ComfyUI-Manager.git
    version: latest
  - comfyui-kjnodes@1.0.5
comfyui: v0.3.75
pip:
  - diffusers>=0.29
```"""

_HEAD = """\
# config.yml

{note}
One file says which models and custom nodes there are; `comfyworker config apply` makes it true.
`CONFIG_YML` is a whole file as text or base64, and goes before `CONFIG_PATH`, which names one.
Without them, the `config.yml` on the volume applies, else the one in the working directory, else the one in `/app`.
A `comfy-build.yaml` and a snapshot of ComfyUI-Manager are read too.
Every mistake is named with its line and key; `comfyworker config validate` looks for them.
Editors check it by the [schema](config.schema.json), which `comfyworker config schema` prints.

{example}
"""

_WHERE = """\
## Where things go

Models go to `MODELS_PATH`, else to the models folder of the network volume, else to ComfyUI's own.
`destination` is one of ComfyUI's folders or a folder below one; its usual aliases are understood.
A file that lies there already with the right size and hash is taken as it is.
Another file of that name, which the worker did not make, is never replaced without `--force`.
Custom nodes go to ComfyUI's `custom_nodes`; one that the file does not name any more is renamed to `NAME.disabled`.
Models that it does not name any more stay until `comfyworker models prune`.

What was done is noted in a hidden folder `.comfyworker` beside the models and beside `custom_nodes`.
An unchanged file is recognised by these notes and each model's size and time, without any request.
`config.lock.yml`, beside the file, says what `latest` became; `comfyworker config apply --locked` reproduces it.
`latest` and `nightly` are asked for again with `--force`, and when their entry changes.
"""


def config_page(note: str) -> str:
    """Return the page."""
    schema: Any = json_schema()  # plain JSON, whose shape is known here
    keys = schema["properties"]
    lines = [_HEAD.format(note=note, example=_EXAMPLE), "## The file", ""]
    lines += _table(keys)
    lines += ["", "## A model", "", *_table(keys["models"]["items"]["properties"], keys["models"]["items"]["required"])]
    node = keys["nodes"]["items"]["anyOf"][0]
    lines += [
        "",
        "## A custom node",
        "",
        "A mapping with either `url` or `name`, or a name of the Comfy Registry alone, as `comfyui-kjnodes@1.0.5`.",
        "",
    ]
    lines += _table(node["properties"])
    lines += ["", "## ComfyUI", "", "The version alone, as `comfyui: v0.3.75`, or a mapping:", ""]
    lines += _table(keys["comfyui"]["anyOf"][1]["properties"], ["version"])
    return "\n".join([*lines, "", _WHERE])


def _table(properties: dict[str, Any], required: list[str] | None = None) -> Iterator[str]:
    yield "| key | value | what it says |"
    yield "|---|---|---|"
    for name, value in properties.items():
        must = " Required." if required and name in required else ""
        yield f"| `{name}` | {_kind(value)} | {value['description'].replace('|', chr(92) + '|')}{must} |"


def _kind(value: dict[str, Any]) -> str:
    if "anyOf" in value:
        kinds_of_all = [_kind(choice) for choice in value["anyOf"]]
        return ", or ".join(dict.fromkeys(kind for kind in kinds_of_all if kind))
    kinds: list[str] = value["type"] if isinstance(value["type"], list) else [value["type"]]
    words = {"string": "text", "array": "list", "object": "mapping", "boolean": "true or false", "integer": "number"}
    return ", or ".join(words.get(kind, kind) for kind in kinds if kind != "null")
