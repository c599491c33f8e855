"""Settings read from the environment and files: `load_settings()` is called once, at the entry point."""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence

from pydantic import AliasChoices, BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from comfyworker.errors import InvalidSettings, Problem
from comfyworker.redaction import hide_credentials
from comfyworker.settings.dotenv import SettingFile
from comfyworker.settings.groups import (
    ComfyUISettings,
    Group,
    InputSettings,
    JobSettings,
    LogSettings,
    ModifierSettings,
    ShutdownSettings,
)
from comfyworker.settings.http import HttpSettings
from comfyworker.settings.outward import DeliverySettings, StateSettings, StoreSettings, WebhookSettings
from comfyworker.settings.platform import PlatformSettings
from comfyworker.settings.provision import ProvisionSettings
from comfyworker.settings.runpod import RunPodSettings
from comfyworker.settings.service import QueueSettings
from comfyworker.settings.vast import VastSettings
from comfyworker.settings.volume import VolumeSettings


class Settings(Group):
    """All settings of a worker, by room."""

    comfyui: ComfyUISettings = ComfyUISettings()
    job: JobSettings = JobSettings()
    inputs: InputSettings = InputSettings()
    modifiers: ModifierSettings = ModifierSettings()
    delivery: DeliverySettings = DeliverySettings()
    store: StoreSettings = StoreSettings()
    webhook: WebhookSettings = WebhookSettings()
    queue: QueueSettings = QueueSettings()
    state: StateSettings = StateSettings()
    http: HttpSettings = HttpSettings()
    platform: PlatformSettings = PlatformSettings()
    runpod: RunPodSettings = RunPodSettings()
    vast: VastSettings = VastSettings()
    volume: VolumeSettings = VolumeSettings()
    provision: ProvisionSettings = ProvisionSettings()
    log: LogSettings = LogSettings()
    shutdown: ShutdownSettings = ShutdownSettings()


class SettingEntry(BaseModel):
    """One setting as the docs and `comfyworker settings show` list it."""

    model_config = ConfigDict(frozen=True)

    group: str
    field: str
    names: tuple[str, ...]
    """Its environment names, ours first."""
    type_name: str
    default: str
    description: str
    is_secret: bool


def environment_names(field: FieldInfo) -> tuple[str, ...]:
    """Return the environment names of one field, ours first."""
    alias = field.validation_alias
    return tuple(str(choice) for choice in alias.choices) if isinstance(alias, AliasChoices) else ()


def _groups() -> Iterator[tuple[str, type[Group]]]:
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, Group):
            yield name, group


def _type_name(field: FieldInfo) -> str:
    """Return a field's type in a reader's words, as `integer` or `list`."""
    text = str(field.annotation)
    choices = getattr(field.annotation, "__args__", ())
    literal = next((part for part in (field.annotation, *choices) if str(part).startswith("typing.Literal")), None)
    if literal is not None:
        spellings = [str(choice) for choice in literal.__args__]
        return " | ".join(["integer", *spellings] if int in choices else spellings)
    words = {"Path": "path", "SecretStr": "secret", "tuple": "list", "bool": "true | false", "int": "integer"}
    return next((word for part, word in words.items() if part in text), "number" if "float" in text else "text")


@functools.cache  # asked several times at each start
def list_settings() -> tuple[SettingEntry, ...]:
    """Return every setting there is, in the order of the groups."""
    return tuple(
        SettingEntry(
            group=group_name,
            field=field_name,
            names=environment_names(field),
            type_name=_type_name(field),
            default="" if field.default in (None, ()) else str(field.default),
            description=field.description or "",
            is_secret="SecretStr" in str(field.annotation),
        )
        for group_name, group in _groups()
        for field_name, field in group.model_fields.items()
    )


_OTHERS_VALUE = re.compile(r"<([A-Z0-9_]+)>")


def _spell_out(name: str, group: type[Group], environ: Mapping[str, str]) -> str:
    """Return the name that a variable bears in `environ`: `VAST_TCP_PORT_<WORKER_PORT>` ends with that one's value.

    A default counts as a value.
    """

    def value_of(found: re.Match[str]) -> str:
        if _is_set(environ, found[1]):
            return environ[found[1]].strip()
        return next(str(each.default) for each in group.model_fields.values() if found[1] in environment_names(each))

    return _OTHERS_VALUE.sub(value_of, name)


def _is_set(environ: Mapping[str, str], name: str) -> bool:
    # An empty variable counts as unset: compose files and platforms hand on empty ones for fields left blank.
    return bool(environ.get(name, "").strip())


def values_of_files(
    files: Sequence[SettingFile], environ: Mapping[str, str] | None = None
) -> dict[str, tuple[str, SettingFile]]:
    """Return the variables that files set, each with its value and its file.

    What no setting is named, and a setting that has a value from a source before, under any of its names, is left out.

    Args:
        files: The files, the one that wins first.
        environ: The variables that win over all files; None takes the process's own.
    """
    variables = os.environ if environ is None else environ
    found: dict[str, tuple[str, SettingFile]] = {}
    for entry in list_settings():
        if any(_is_set(variables, name) for name in entry.names):
            continue
        for file in files:
            given = {name: (file.values[name], file) for name in entry.names if _is_set(file.values, name)}
            if given:
                found.update(given)
                break
    return found


def exposed_files(files: Sequence[SettingFile]) -> tuple[SettingFile, ...]:
    """Return the files that hold a secret and that others than their owner may read or write."""
    secrets = [name for entry in list_settings() if entry.is_secret for name in entry.names]
    return tuple(file for file in files if file.is_open and any(_is_set(file.values, name) for name in secrets))


def _read_group(
    group: type[Group], environ: Mapping[str, str], of_files: Mapping[str, str], problems: list[Problem]
) -> Group | None:
    values: dict[str, str] = {}
    for field_name, field in group.model_fields.items():
        names = [_spell_out(name, group, environ) for name in environment_names(field)]
        given = {name: environ[name].strip() for name in names if _is_set(environ, name)}
        if len(set(given.values())) > 1:
            message = f"{' and '.join(given)} mean the same setting but are set to different values"
            problems.append(Problem(message=message, path=" ".join(given), code="conflicting_aliases"))
        elif given:
            values[field_name] = next(iter(given.values()))
    try:
        return group.model_validate(values)
    except ValidationError as error:
        problems.extend(_problem(group, item, of_files) for item in error.errors(include_url=False))
        return None


_QUOTED = re.compile(r"'([^']*)'")


def _hide_quoted(text: str, *, given: str) -> str:
    """Return `text` without the quotations from `given`; what would be right may be quoted as well, and stays."""
    return _QUOTED.sub(lambda found: "'…'" if found[1].lower() in given.lower() else found[0], text)


def _problem(group: type[Group], item: ErrorDetails, of_files: Mapping[str, str]) -> Problem:
    """Say one bad value in the words of the environment; neither a secret's value nor a file's is ever repeated."""
    located = str(item["loc"][0])
    for field_name, field in group.model_fields.items():
        names = environment_names(field)
        if located == field_name or located in names:
            received = "" if "SecretStr" in str(field.annotation) else hide_credentials(f" (it is '{item['input']}')")
            reason = hide_credentials(item["msg"].removeprefix("Value error, "))
            file = next((of_files[name] for name in names if name in of_files), None)
            if file is not None:
                # Whoever mistook a line may have written a key there.
                received = f" (in {file})"
                reason = _hide_quoted(reason, given=str(item["input"]))
            return Problem(message=f"{names[0]}: {reason}{received}", path=names[0], code="invalid_value")
    return Problem(message=f"{located}: {item['msg']}", path=located, code="invalid_value")


def load_settings(environ: Mapping[str, str] | None = None, files: Sequence[SettingFile] = ()) -> Settings:
    """Read all settings from the environment, and from files what that does not set.

    Args:
        environ: The variables to read; None takes the process's own.
        files: What `read_setting_files()` found, the one that wins first.

    Raises:
        InvalidSettings: with *every* variable that does not fit, and every pair of aliases that disagree.
    """
    variables = os.environ if environ is None else environ
    problems: list[Problem] = []
    found = values_of_files(files, variables)
    variables = {**variables, **{name: value for name, (value, _) in found.items()}}
    of_files = {name: file.label for name, (_, file) in found.items()}
    groups = {name: _read_group(group, variables, of_files, problems) for name, group in _groups()}
    if problems:
        raise InvalidSettings(
            "; ".join(problem.message for problem in problems),
            hint="Correct or unset these variables; `comfyworker settings` lists all of them.",
            problems=problems,
        )
    return Settings.model_validate(groups)


def near_misses(environ: Mapping[str, str] | None = None) -> tuple[tuple[str, str], ...]:
    """Return (name that is set, name that was probably meant) for variables that nearly bear one of our names."""
    variables = os.environ if environ is None else environ
    known = {name for entry in list_settings() for name in entry.names}
    marks = ("COMFYUI_", "COMFY_", "COMFYWORKER_")
    found = []
    for name in sorted(variables):
        if name in known or not name.startswith(marks):
            continue
        bare = name.removeprefix("COMFYWORKER_")
        close = difflib.get_close_matches(bare, known, n=1, cutoff=0.8)
        if close:
            found.append((name, close[0]))
    return tuple(found)


def process_environment() -> dict[str, str]:
    """Return a copy of the process's environment, for a child process to start from."""
    return dict(os.environ)


def set_environment_defaults(defaults: Mapping[str, str]) -> None:
    """Set variables of the process's own that are not set: for SDKs that can be told in no other way."""
    for name, value in defaults.items():
        if not _is_set(os.environ, name):
            os.environ[name] = value
