"""Which dialect an answer is spoken in."""

from typing import get_args

import pytest

from comfyworker.dialects import DIALECT_NAMES, choose_dialect, dialect_named
from comfyworker.errors import InvalidRequest
from comfyworker.settings import JobSettings


@pytest.mark.parametrize("name", DIALECT_NAMES)
def test_each_dialect_is_found_by_its_name(name: str) -> None:
    """And knows it."""
    assert dialect_named(name).name == name


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    """The nearest one is proposed."""
    with pytest.raises(InvalidRequest) as caught:
        dialect_named("worker_comfyui")
    assert caught.value.message == "there is no dialect 'worker_comfyui'; did you mean 'worker-comfyui'?"
    assert caught.value.hint == "There are worker-comfyui, urls, flux, pyworker."


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"input": {"response_format": "flux"}}, "flux"),
        ({"input": '{"response_format": "flux"}'}, "flux"),
        ({"payload": {"input": {"response_format": "pyworker"}}}, "pyworker"),
        ({"input": {"response_format": ""}}, "urls"),
        ({"input": {"response_format": None}}, "urls"),
        ({"input": {"response_format": "xml"}}, "urls"),
        ({"input": {"response_format": 3}}, "urls"),
        ({"input": "{"}, "urls"),
        ({}, "urls"),
        (None, "urls"),
    ],
)
def test_the_request_chooses_else_the_setting(body: object, name: str) -> None:
    """A format that does not exist is answered, and refused, in the worker's own dialect."""
    assert choose_dialect(body, default="urls").name == name


def test_the_setting_knows_every_dialect() -> None:
    """RESPONSE_FORMAT takes the names that there are, and the first one without it."""
    field = JobSettings.model_fields["response_format"]
    assert (get_args(field.annotation), field.default) == (DIALECT_NAMES, DIALECT_NAMES[0])
