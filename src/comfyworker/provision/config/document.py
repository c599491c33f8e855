"""YAML read so that each value knows its line, for messages that lead to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from comfyworker.errors import InvalidConfig, Problem

_MOST_VALUES = 50_000
"""More than any config has; aliases of aliases would make a small file as large as one likes."""
_DEEPEST = 50
# Ten times as fast, where PyYAML was built with libyaml, as its wheels are.
_Loader: type[yaml.CSafeLoader | yaml.SafeLoader] = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


@dataclass(frozen=True)
class Value:
    """A value of the document and where it stands."""

    content: Any  # what YAML knows, dates included
    """None, a bool, a number, text, a list of values, or a mapping of text to values."""
    line: int
    """Counted from 1."""
    key_lines: dict[str, int] = field(default_factory=dict)
    """For a mapping: the line of each key."""


def read_document(text: str, *, name: str) -> Value:
    """Return what YAML text says; an empty document is an empty mapping.

    JSON is YAML too.

    Args:
        text: The file's content.
        name: What messages call it.

    Raises:
        InvalidConfig: it is no YAML, has a key twice, or is larger or deeper than any config.
    """
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return Value({}, 1)
        return _Conversion(loader, name).value(root, 0)
    except yaml.MarkedYAMLError as error:
        raise _unreadable(name, error) from error
    except yaml.reader.ReaderError as error:
        message = f"{name} holds a character that no YAML has"
        raise InvalidConfig(message, problems=[Problem(message=message, code="not_yaml")]) from error
    finally:
        loader.dispose()


class _Conversion:
    """Turns YAML's nodes into values, as YAML's safe loader would."""

    def __init__(self, loader: yaml.CSafeLoader | yaml.SafeLoader, name: str) -> None:
        self._loader = loader
        self._name = name
        self._count = 0

    def value(self, node: Node, depth: int) -> Value:
        self._count += 1
        if self._count > _MOST_VALUES or depth > _DEEPEST:
            raise _fault(self._name, _line(node), "has more values than any config has", "too_large")
        if isinstance(node, MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, SequenceNode):
            return Value([self.value(item, depth + 1) for item in node.value], _line(node))
        try:
            return Value(self._loader.construct_object(node, deep=True), _line(node))
        except (yaml.constructor.ConstructorError, ValueError) as error:
            raise _fault(self._name, _line(node), "holds a value that YAML cannot read", "not_yaml") from error

    def _mapping(self, node: MappingNode, depth: int) -> Value:
        self._check_keys(node)
        self._loader.flatten_mapping(node)  # resolves `<<`, as YAML's own loader does; own keys come last, and win
        content: dict[str, Value] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in self._pairs(node):
            lines[str(key_node.value)] = _line(key_node)
            content[str(key_node.value)] = self.value(value_node, depth + 1)
        return Value(content, _line(node), lines)

    def _check_keys(self, node: MappingNode) -> None:
        lines: dict[str, int] = {}
        for key_node, _ in self._pairs(node):
            key = str(key_node.value)
            if key in lines:
                what = f"has the key '{key}' twice, first in line {lines[key]}"
                raise _fault(self._name, _line(key_node), what, "duplicate_key")
            lines[key] = _line(key_node)

    def _pairs(self, node: MappingNode) -> Iterator[tuple[ScalarNode, Node]]:
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise _fault(self._name, _line(key_node), "has a key that is no text", "not_yaml")
            yield key_node, value_node


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _fault(name: str, line: int, what: str, code: str) -> InvalidConfig:
    message = f"{name}, line {line}: it {what}"
    return InvalidConfig(message, problems=[Problem(message=message, code=code, path=f"line {line}")])


def _unreadable(name: str, error: yaml.MarkedYAMLError) -> InvalidConfig:
    mark = error.problem_mark or error.context_mark
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
    message = f"{name}{where}: it is no YAML: {error.problem or error.context or 'it cannot be read'}"
    hint = "Indent with spaces, two for each level, and put values with `: ` or ` #` in quotes."
    path = f"line {mark.line + 1}" if mark is not None else None
    return InvalidConfig(message, hint=hint, problems=[Problem(message=message, code="not_yaml", path=path)])
