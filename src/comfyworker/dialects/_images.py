"""The files that come with a request: `images`, a list of `{"name", "image"}`."""

from __future__ import annotations

from collections.abc import Mapping

from comfyworker.dialects._fields import ENTRY_CODE, wrong_type
from comfyworker.errors import Problem
from comfyworker.jobs import InputFile

_KEYS = ("name", "image")


def read_images(value: object, problems: list[Problem], *, words: str | None) -> tuple[InputFile, ...]:
    """Return the files; what is wrong is added to `problems`.

    Args:
        value: What the request has under `images`.
        problems: Where problems go.
        words: What the dialect says to every list that is not of the right shape; None says what is wrong.
    """
    if value is None:
        return ()
    misshapen = _misshapen(value, "wrong_type" if words is None else ENTRY_CODE)
    if misshapen:
        if words is not None:
            problems.append(Problem(message=words, code="invalid_images", path="images"))
        problems.extend(misshapen)
    if misshapen or not isinstance(value, list):
        return ()
    files = []
    for index, item in enumerate(value):
        wrong = [key for key in _KEYS if not isinstance(item[key], str)]
        problems.extend(wrong_type(f"images[{index}].{key}", "text", item[key]) for key in wrong)
        if not wrong:
            files.append(InputFile(name=item["name"], data=item["image"]))
    return tuple(files)


def _misshapen(images: object, code: str) -> list[Problem]:
    """Return a problem for each entry that is no object with both keys."""
    if not isinstance(images, list):
        return [wrong_type("images", "a list", images, code=code)]
    problems = []
    for index, item in enumerate(images):
        path = f"images[{index}]"
        if not isinstance(item, Mapping):
            problems.append(wrong_type(path, "an object", item, code=code))
        elif any(key not in item for key in _KEYS):
            lacks = " and no ".join(f"'{key}'" for key in _KEYS if key not in item)
            problems.append(Problem(message=f"{path} has no {lacks}", code=code, path=path))
    return problems
