"""Which widgets a node has on ComfyUI's page, in what order, and what they held when the workflow was saved.

The file holds values without names, in the order in which the page made the widgets; that order follows from the
class's declaration. Wire source: ComfyUI's frontend, `src/services/litegraphService.ts`, `src/scripts/widgets.ts`,
`src/utils/litegraphUtil.ts` migrateWidgetsValues.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comfyworker.workflow.gui.document import GuiNode, Slot

Declaration = Mapping[str, Any]  # Any: a class as `/object_info` has it

CONTROLS = frozenset({"fixed", "increment", "decrement", "randomize", "increment-wrap"})
"""What the page shall do with a seed after each run; stands behind the seed and is not sent."""
_DEFAULTS: Mapping[str, Any] = {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False, "STRING": ""}
_DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
_WIDGET_TYPES = frozenset(
    {*_DEFAULTS, "COMBO", _DYNAMIC_COMBO, "MARKDOWN", "TEXTAREA", "COLOR", "WEBCAM", "AUDIO_RECORD", "LOAD_3D"}
)
_BUTTONS = frozenset({"upload3dmodel", "uploadExtraResources", "clear"})
"""What the page saves for the buttons that it puts before a 3D view."""
_UPLOADS = ("image_upload", "video_upload", "animated_image_upload")
_SEEDS = ("seed", "noise_seed")


@dataclass(frozen=True, slots=True)
class Declared:
    """One input as its class declares it."""

    name: str
    type_name: str
    options: Mapping[str, Any]
    choices: Sequence[Any]
    required: bool

    @property
    def is_forced(self) -> bool:
        """Whether it is an input although its type has a widget."""
        return bool(self.options.get("forceInput"))

    @property
    def widget_type(self) -> str:
        """The type that decides on its widget."""
        return str(self.options.get("widgetType") or self.type_name)

    @property
    def has_control(self) -> bool:
        """Whether the page adds a widget that says what becomes of its value after each run."""
        flag = self.options.get("control_after_generate")
        if self.widget_type == "INT" and flag is None:
            return self.name in _SEEDS
        return bool(flag) and self.widget_type in ("INT", "COMBO")

    @property
    def default(self) -> Any:  # noqa: ANN401 - any JSON value
        """What the page puts into a new widget; None if that is nothing."""
        default = self.options.get("default")
        if default is not None:
            return default
        if self.choices:
            first = self.choices[0]
            return first.get("key") if isinstance(first, Mapping) else first
        return _DEFAULTS.get(self.widget_type)


def declared_inputs(declaration: Declaration) -> list[Declared]:
    """Return the inputs of a class in the order in which the page makes them."""
    groups = declaration.get("input")
    order = declaration.get("input_order")
    return _in_order(groups if isinstance(groups, Mapping) else {}, order if isinstance(order, Mapping) else {})


def is_widget(declared: Declared, slots: Sequence[Slot]) -> bool:
    """Tell whether the input has a widget: its type says so, or the saved node does for types of custom nodes."""
    if declared.is_forced:
        return False
    if declared.widget_type in _WIDGET_TYPES:
        return True
    return any(slot.name == declared.name and slot.widget == declared.name for slot in slots)


def ordered_slots(node: GuiNode, declaration: Declaration | None) -> list[Slot]:
    """Return the inputs of a node as the page has them after loading: sockets, widgets, then what else was saved."""
    if declaration is None:
        return list(node.inputs)
    saved = {slot.name: slot for slot in node.inputs}
    declared = declared_inputs(declaration)
    widgets = {entry.name for entry in declared if is_widget(entry, node.inputs)}
    sockets = [entry for entry in declared if entry.name not in widgets]
    ordered = []
    for entry in [*sockets, *(entry for entry in declared if entry.name in widgets)]:
        was = saved.pop(entry.name, None)
        widget = entry.name if entry.name in widgets else None
        ordered.append(Slot(entry.name, entry.type_name, was.link if was else None, widget))
    return [*ordered, *saved.values()]


def widget_values(node: GuiNode, declaration: Declaration) -> dict[str, Any]:
    """Return what the node's widgets held, by name; those that were saved without a value have their default."""
    declared = declared_inputs(declaration)
    if isinstance(node.values, Mapping):
        return _named_values(node.values, [entry for entry in declared if is_widget(entry, node.inputs)])
    return dict(_Reader(node, declared).read())


def owned_names(node: GuiNode, declaration: Declaration) -> list[str | None]:
    """Return whose each saved value is, in their order: a widget's name, None for a control's."""
    names: list[str | None] = []
    for entry in declared_inputs(declaration):
        if is_widget(entry, node.inputs):
            names += [entry.name, *([None] if entry.has_control else [])]
    return names


def fits(value: object, declared: Declared) -> bool:
    """Tell whether a value is of the kind that the widget holds."""
    kind = declared.widget_type
    if kind in ("INT", "FLOAT"):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "BOOLEAN":
        return isinstance(value, bool)
    if kind == "STRING" or (declared.choices and all(isinstance(choice, str) for choice in declared.choices)):
        return isinstance(value, str)
    return value is not None


def _in_order(groups: Mapping[str, Any], order: Mapping[str, Any]) -> list[Declared]:
    found: dict[str, Declared] = {}
    upload: Declared | None = None
    for group in ("required", "optional"):
        inputs = groups.get(group)
        for name, config in inputs.items() if isinstance(inputs, Mapping) else ():
            found.setdefault(name, _declared(name, config, required=group == "required"))
        if group == "required" and any(_is_upload(entry) for entry in found.values()):
            # The page's own button behind them: its value is saved as well.
            upload = Declared("upload", "BUTTON", {}, (), required=True)
            if not order:
                found.setdefault("upload", upload)
    named: list[str] = []
    for group in ("required", "optional"):
        names = order.get(group)
        named += [name for name in names if name in found] if isinstance(names, list) else []
    if upload is not None:
        found.setdefault("upload", upload)
    return [found[name] for name in dict.fromkeys([*named, *found])]


def _declared(name: str, config: object, *, required: bool) -> Declared:
    parts = config if isinstance(config, list | tuple) else ()
    kind = parts[0] if parts else "*"
    options = parts[1] if len(parts) > 1 and isinstance(parts[1], Mapping) else {}
    listed = kind if isinstance(kind, list | tuple) else options.get("options")
    return Declared(
        name=name,
        type_name="COMBO" if isinstance(kind, list | tuple) else str(kind),
        options=options,
        choices=tuple(listed) if isinstance(listed, list | tuple) else (),
        required=required,
    )


def _is_upload(declared: Declared) -> bool:
    return declared.type_name == "COMBO" and any(declared.options.get(flag) is True for flag in _UPLOADS)


def _named_values(values: Mapping[str, Any], widgets: Sequence[Declared]) -> dict[str, Any]:
    """Return values that were saved by name; plain ones that are not declared are kept, for some classes take any."""
    named = {entry.name: entry.default for entry in widgets if entry.default is not None}
    kept = {name: value for name, value in values.items() if value is not None and not isinstance(value, Mapping)}
    given = {entry.name: values[entry.name] for entry in widgets if values.get(entry.name) is not None}
    return {**named, **kept, **given}


class _Reader:
    """Hands a node's values out to its widgets, in their order."""

    def __init__(self, node: GuiNode, declared: Sequence[Declared]) -> None:
        self.values = list(node.values) if isinstance(node.values, list) else []
        self.slots = node.inputs
        self.at = 0
        self.declared = [entry for entry in declared if entry.is_forced or self._has_place(entry)]
        shown = sum(self._places(entry) for entry in self.declared if not entry.is_forced)
        with_forced = sum(self._places(entry) for entry in self.declared)
        # A class may have turned a widget into an input since the workflow was saved.
        if with_forced == shown or with_forced != len(self.values):
            self.declared = [entry for entry in self.declared if not entry.is_forced]
        self.is_exact = len(self.values) in (shown, with_forced)

    def read(self) -> Iterator[tuple[str, Any]]:
        for entry in self.declared:
            yield from self._take(entry, entry.name)

    def _has_place(self, entry: Declared) -> bool:
        return entry.type_name == "BUTTON" or is_widget(entry, self.slots)

    def _places(self, entry: Declared) -> int:
        if entry.is_forced and entry.widget_type not in _WIDGET_TYPES:
            return 0
        return 1 + entry.has_control * (2 if entry.widget_type == "COMBO" else 1)

    def _take(self, entry: Declared, name: str) -> Iterator[tuple[str, Any]]:
        self._skip_foreign(entry.widget_type)
        value = self.values[self.at] if self.at < len(self.values) else None
        self.at += 1
        if entry.has_control:
            self._skip_control(with_filter=entry.widget_type == "COMBO")
        if entry.is_forced or entry.type_name == "BUTTON":
            return
        value = entry.default if value is None else value
        if value is not None:
            yield name, value
        if entry.widget_type == _DYNAMIC_COMBO:
            yield from self._take_chosen(entry, name, value)

    def _take_chosen(self, entry: Declared, name: str, key: object) -> Iterator[tuple[str, Any]]:
        """Read the widgets that a dynamic combo's choice has brought with it; they stand right behind it."""
        for choice in entry.choices:
            if isinstance(choice, Mapping) and choice.get("key") == key:
                groups = choice.get("inputs")
                for inner in _in_order(groups if isinstance(groups, Mapping) else {}, {}):
                    if self._has_place(inner):
                        yield from self._take(inner, f"{name}.{inner.name}")
                return

    def _skip_foreign(self, widget_type: str) -> None:
        """Pass over what stands before a widget's value without being any input's."""
        # A control where a number is due belongs to the widget before, whose class no longer asks for one.
        foreign = CONTROLS if widget_type in ("INT", "FLOAT") else _BUTTONS if widget_type == "LOAD_3D" else ()
        while self.at < len(self.values) and self._text() in foreign:
            self.at += 1

    def _text(self) -> str | None:
        value = self.values[self.at]
        return value if isinstance(value, str) else None

    def _skip_control(self, *, with_filter: bool) -> None:
        following = self._text() if self.at < len(self.values) else None
        # Files from before the control had words hold true or false; other files hold none at all.
        if self.is_exact or following in CONTROLS:
            self.at += 2 if with_filter else 1
