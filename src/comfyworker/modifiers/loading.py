"""Read modifier files from the package and from the owner's folder."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import orjson

from comfyworker.errors import InvalidSettings, Problem, WorkerError
from comfyworker.jobs import Graph
from comfyworker.settings import ModifierSettings
from comfyworker.workflow.graph import read_workflow
from comfyworker.workflow.modifiers import Modifier, Modifiers, read_modifier


def load_modifiers(settings: ModifierSettings) -> Modifiers:
    """Return the modifiers of the package and of MODIFIERS_DIR, and the workflow of DEFAULT_WORKFLOW.

    A modifier of the folder replaces one of the package with the same name.

    Raises:
        InvalidSettings: with everything that is wrong with any of these files.
    """
    problems: list[Problem] = []
    known = _read_all(resources.files("comfyworker.modifiers"), problems)
    if settings.folder is not None:
        known.update(_read_all(settings.folder, problems))
    default = _read_default(settings.default_workflow, problems)
    if problems:
        raise InvalidSettings(
            "; ".join(problem.message for problem in problems),
            hint="Correct these files; MODIFIERS_DIR and DEFAULT_WORKFLOW name them.",
            problems=problems,
        )
    return Modifiers(known, default)


def _read_all(folder: Traversable, problems: list[Problem]) -> dict[str, Modifier]:
    found: dict[str, Modifier] = {}
    try:
        files = sorted((file for file in folder.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)
    except OSError as error:
        problems.append(_unreadable("MODIFIERS_DIR", error))
        return {}
    for file in files:
        try:
            modifier = read_modifier(_parse(file), path=file.name)
        except OSError as error:
            problems.append(_unreadable(file.name, error))
        except WorkerError as error:
            problems.extend(error.problems)
        except ValueError as error:
            problems.append(_no_json(file.name, error))
        else:
            if modifier.name in found:
                message = f"{file.name}: another file there describes the modifier '{modifier.name}', too"
                problems.append(Problem(message=message, code="invalid_modifier", path=file.name))
            found[modifier.name] = modifier
    return found


def _read_default(path: Path | None, problems: list[Problem]) -> Graph | None:
    if path is None:
        return None
    try:
        return read_workflow(_parse(path), path=path.name)
    except OSError as error:
        problems.append(_unreadable("DEFAULT_WORKFLOW", error))
    except WorkerError as error:
        problems.extend(error.problems)
    except ValueError as error:
        problems.append(_no_json(path.name, error))
    return None


def _parse(file: Traversable) -> object:
    parsed: object = orjson.loads(file.read_bytes())
    return parsed


def _unreadable(name: str, error: OSError) -> Problem:
    reason = (error.strerror or "it cannot be read").lower()
    return Problem(message=f"{name}: {reason}", code="invalid_modifier", path=name)


def _no_json(name: str, error: ValueError) -> Problem:
    return Problem(message=f"{name} is not JSON: {error}", code="invalid_modifier", path=name)
