"""What there is in the worker under a name of some kind: settings, commands, routes, keys and others."""

import ast
import inspect
import shlex
from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any

import typer.main

from comfyworker import errors
from comfyworker.cli.app import app
from comfyworker.comfyui.locate import KNOWN_PLACES
from comfyworker.comfyui.model_places import KNOWN_VOLUMES
from comfyworker.errors import WorkerError
from comfyworker.hosts.http.app import APIS, routes_of
from comfyworker.hosts.http.metrics import Metrics
from comfyworker.jobs import UrlType
from comfyworker.modifiers import load_modifiers
from comfyworker.provision.config.destinations import resolve_destination
from comfyworker.provision.config.reading import parse_config
from comfyworker.provision.config.schema import json_schema
from comfyworker.provision.nodes.known_fixes import known_fixes
from comfyworker.settings import ModifierSettings, list_settings
from support.source import REPOSITORY, module_names, source_of
from support.troubleshooting import pattern_of


@cache
def settings() -> frozenset[str]:
    """Return every name of every setting."""
    return frozenset(name for entry in list_settings() for name in entry.names)


@cache
def error_codes() -> tuple[str, ...]:
    """Return the code of every error, in the order of `errors.py`."""
    classes = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, WorkerError)]
    return tuple(error.code for error in classes if error is not WorkerError)


@cache
def routes() -> frozenset[str]:
    """Return every route of the server, as `GET /health`."""
    return frozenset(f"{method} {route.path}" for route in routes_of(APIS, Metrics()) for method in route.methods)


@cache
def literal_texts() -> tuple[str, ...]:
    """Return every text that stands in our source, `…` in the place of what is put into it."""
    found = []
    for name in module_names():
        for node in ast.walk(ast.parse(source_of(name))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            if isinstance(node, ast.JoinedStr):
                found.extend("".join(parts) for parts in product(*map(_said_by, node.values)))
    return tuple(found)


def _said_by(part: ast.expr) -> list[str]:
    """Return what may stand at one place of a text: its words, one of two, or anything."""
    if isinstance(part, ast.Constant):
        return [str(part.value)]
    value = part.value if isinstance(part, ast.FormattedValue) else part
    if isinstance(value, ast.IfExp) and all(isinstance(each, ast.Constant) for each in (value.body, value.orelse)):
        return [text for each in (value.body, value.orelse) for text in _said_by(each)]
    return ["…"]


def is_said(message: str) -> bool:
    """Tell whether the worker says something of that wording; `…` stands for any text."""
    pattern = pattern_of(message)
    return any(pattern.search(text) for text in literal_texts())


def is_command(call: str) -> bool:
    """Tell whether a line calls a command that there is, with options that it has; nothing is run."""
    command: Any = typer.main.get_command(app)  # Any: typer's command classes are its own affair
    _, *words = shlex.split(call)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    known.add("--help")
    is_group = bool(getattr(command, "commands", {}))
    return not is_group and {word for word in words if word.startswith("-")} <= known


def is_config_key(path: str) -> bool:
    """Tell whether config.yml takes a key, as `models[].url`."""
    place: Any = json_schema()  # Any: a schema is JSON
    for part in path.split("."):
        place = place["properties"].get(part.removesuffix("[]"))
        if place is None:
            return False
        if part.endswith("[]"):
            items = place["items"]
            place = items["anyOf"][0] if "anyOf" in items else items
    return True


def is_version(name: str) -> bool:
    """Tell whether a custom node in config.yml may have that version."""
    config = parse_config(f"nodes: [{{url: 'https://github.com/someone/pack', version: {name}}}]")
    return config.nodes[0].version == name


def _holds(path: str, text: str) -> bool:
    return text in (REPOSITORY / path).read_text(encoding="utf-8")


_PLACES = {*map(str, KNOWN_PLACES), *(str(path) for _, path in KNOWN_VOLUMES), "/app", "workspace"}

KINDS: dict[str, Callable[[str], bool]] = {
    "setting": lambda name: name in settings(),
    "code": lambda name: name in error_codes(),
    "route": lambda name: name in routes(),
    "command": is_command,
    "url-type": lambda name: name in set(UrlType),
    "make": lambda name: _holds("Makefile", f"\n{name}:"),
    "file": lambda name: (REPOSITORY / name).exists(),
    "place": lambda name: name in _PLACES,
    "config": is_config_key,
    "version": is_version,
    "destination": lambda name: resolve_destination(f"models/{name}/") == name,
    "fix": lambda name: name in {fix.pack for fix in known_fixes()},
    "modifier": lambda name: name in load_modifiers(ModifierSettings()).known,
    "parameter": lambda name: name in load_modifiers(ModifierSettings()).known["Text2Image"].parameters,
    "dotfile": lambda name: _holds("src/comfyworker/settings/dotenv.py", f'"{name}"'),
    "variant": lambda name: _holds("docker-bake.hcl", f'"{name}"'),
    "build-argument": lambda name: _holds("Dockerfile", f"\nARG {name}="),
    "container-variable": lambda name: _holds("docker/entrypoint.sh", f"${{{name}:-"),
    "compose": lambda call: _holds("docker-compose.yml", f"profiles: [{call.split()[3]}]"),
    "client-variable": lambda name: _holds("examples/clients/endpoint.py", name),
}
"""Tells for each kind whether there is something of that name."""
