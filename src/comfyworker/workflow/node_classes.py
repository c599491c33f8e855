"""What ComfyUI says of its node classes (`/object_info`), parsed class by class when it is asked for.

Wire source: ComfyUI `server.py` node_info; `comfy_api/latest/_io.py` GET_NODE_INFO_V1. A ComfyUI has hundreds of
classes and a workflow uses a dozen, so nothing is parsed before its first use, and then kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from comfyworker.workflow.models import is_model_name

ObjectInfo = Mapping[str, Mapping[str, Any]]  # Any: wire data, read with care below
"""ComfyUI's own answer to `GET /object_info`: class → what it takes and gives."""

COMBO = "COMBO"
_LOADER_INPUT = re.compile(
    r"(^|_)(ckpt|checkpoint|lora|unet|vae|clip|clip_vision|control_?net|controlnet|gligen|hypernetwork|model|embedding"
    r"|encoder|upscaler?|ipadapter|bbox|sam|diffusion|gguf)\d*_(name|file|path)\d*$"
)
_DYNAMIC_TYPE = re.compile(r"^COMFY_\w+_V\d+$")
_LISTS_INPUT_FILES = frozenset(
    {
        ("LoadLatent", "latent"),
        ("VHS_LoadVideo", "video"),
        ("VHS_LoadVideoFFmpeg", "video"),
        ("VHS_LoadAudioUpload", "audio"),
    }
)
"""Inputs that list input files and check them in VALIDATE_INPUTS, but carry no upload flag.

VideoHelperSuite's (VHS) get their upload button from its own page script.
"""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a node class."""

    name: str
    required: bool
    type_name: str
    """ComfyUI's type: `INT`, `MODEL`, `A,B` for a union, `*` for any, `COMBO` for both styles of choices."""
    choices: tuple[Any, ...] | None = None  # Any: usually text, but numbers and booleans occur
    """What a combo offers; None for other inputs."""
    minimum: float | None = None
    maximum: float | None = None
    is_multiline: bool = False
    is_upload: bool = False
    """Whether it names a file of ComfyUI's input folder, which may be newer than this list."""
    upload_kind: str = ""
    """What sort of file, in ComfyUI's word (`image` for `image_upload`); empty if it does not tell."""
    is_open: bool = False
    """Whether only ComfyUI can judge its value: uploads, lists that its page fetches, inputs that grow."""
    grows: bool = False
    """Whether other inputs (`name.0`, …) stand for it in a workflow; newer ComfyUIs have such types."""
    is_loader: bool = False
    """Whether its choices are model files."""
    is_list_style: bool = False
    """Whether the choices stand in the place of the type, as in `[["a", "b"], {}]`."""
    choice_set: frozenset[Any] | None = field(default=None, repr=False)

    def offers(self, value: object) -> bool:
        """Tell whether `value` is one of the choices."""
        try:
            if self.choice_set is not None:
                return value in self.choice_set
        except TypeError:
            return False  # lists and objects are never hashable, and no choice is one
        return value in (self.choices or ())


@dataclass(frozen=True, slots=True)
class NodeClass:
    """One node class: what it takes and gives."""

    name: str
    display_name: str
    is_output: bool
    is_custom: bool
    """Whether it comes with a custom node, which may check its inputs by rules that ComfyUI does not tell."""
    inputs: Mapping[str, InputSpec]
    """Required and optional inputs by name; hidden ones are left out, for no workflow sets them."""
    output_types: tuple[Any, ...]  # Any: a type's name, or a tuple of choices


class NodeClasses:
    """The node classes of one ComfyUI, each parsed at its first use.

    Args:
        object_info: The answer to `GET /object_info`; it is kept and must not be changed afterwards.
    """

    def __init__(self, object_info: ObjectInfo) -> None:
        """Keep the answer; nothing is parsed yet."""
        self._info = object_info
        self._parsed: dict[str, NodeClass] = {}

    def __contains__(self, class_type: object) -> bool:
        return class_type in self._info

    def __iter__(self) -> Iterator[str]:
        return iter(self._info)

    def __len__(self) -> int:
        return len(self._info)

    def declaration(self, class_type: str) -> Mapping[str, Any] | None:  # Any: wire data
        """Return a class as `/object_info` has it; None if this ComfyUI does not have it."""
        declared = self._info.get(class_type)
        return declared if isinstance(declared, Mapping) else None

    def get(self, class_type: str) -> NodeClass | None:
        """Return what is known of a class; None if this ComfyUI does not have it."""
        parsed = self._parsed.get(class_type)
        if parsed is None and class_type in self._info:
            parsed = self._parsed[class_type] = _parse_class(class_type, self._info[class_type])
        return parsed


def _parse_class(name: str, info: object) -> NodeClass:
    fields = info if isinstance(info, Mapping) else {}
    raw_outputs = fields.get("output")
    module = fields.get("python_module")
    inputs = {spec.name: spec for spec in _input_specs(name, fields.get("input"))}
    return NodeClass(
        name=name,
        display_name=str(fields.get("display_name") or name),
        is_output=fields.get("output_node") is True,
        is_custom=isinstance(module, str) and module.startswith("custom_nodes"),
        inputs=inputs,
        output_types=tuple(
            tuple(kind) if isinstance(kind, list) else kind
            for kind in (raw_outputs if isinstance(raw_outputs, list) else ())
        ),
    )


def _input_specs(class_name: str, groups: object) -> Iterator[InputSpec]:
    if not isinstance(groups, Mapping):
        return
    # The required ones last: ComfyUI, too, takes a name that is in both groups as required.
    for group in ("optional", "required"):
        declared = groups.get(group)
        for name, config in declared.items() if isinstance(declared, Mapping) else ():
            yield parse_input(
                name, config, required=group == "required", is_open=(class_name, name) in _LISTS_INPUT_FILES
            )


def parse_input(name: str, config: object, *, required: bool = False, is_open: bool = False) -> InputSpec:
    """Return one input from its declaration: `[["a", "b"], {…}]`, `["COMBO", {"options": […]}]` or `["INT", {…}]`.

    Args:
        name: The input's name.
        config: Its declaration on the wire; one that is not understood becomes an input that takes anything.
        required: Whether the class needs it.
        is_open: Whether only ComfyUI can judge its value, for a reason that the declaration does not tell.
    """
    parts = config if isinstance(config, list | tuple) else ()
    kind = parts[0] if parts else "*"
    options = parts[1] if len(parts) > 1 and isinstance(parts[1], Mapping) else {}
    if isinstance(kind, list | tuple):
        choices: tuple[Any, ...] | None = tuple(kind)
    elif kind == COMBO:
        listed = options.get("options")
        choices = tuple(listed) if isinstance(listed, list | tuple) else None
    else:
        choices = None
    type_name = COMBO if isinstance(kind, list | tuple) else str(kind)
    upload_kinds = [
        key.removesuffix("upload").removesuffix("_")
        for key, value in options.items()
        if value and (key == "upload" or key.endswith("_upload"))
    ]
    is_upload = bool(upload_kinds)
    asks_page = bool(options.get("remote") or options.get("multiselect") or options.get("multi_select"))
    grows = bool(_DYNAMIC_TYPE.match(type_name))
    no_list = type_name == COMBO and choices is None
    return InputSpec(
        name=name,
        required=required,
        type_name=type_name,
        choices=choices,
        minimum=_bound(options.get("min")),
        maximum=_bound(options.get("max")),
        is_multiline=options.get("multiline") is True,
        is_upload=is_upload or is_open,
        upload_kind=next(filter(None, upload_kinds), ""),
        is_open=is_open or is_upload or asks_page or no_list or grows,
        grows=grows,
        is_loader=choices is not None
        and not is_upload
        and (bool(_LOADER_INPUT.search(name)) or any(map(is_model_name, choices))),
        is_list_style=isinstance(kind, list | tuple),
        choice_set=_as_set(choices),
    )


def _bound(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _as_set(choices: tuple[Any, ...] | None) -> frozenset[Any] | None:
    try:
        return None if choices is None else frozenset(choices)
    except TypeError:
        return None
