"""Keys decide who asks."""

import pytest
from pydantic import SecretStr

from comfyworker.errors import Unauthorized
from comfyworker.hosts.http.auth import ApiKeys

KEYS = ApiKeys([SecretStr("first-key"), SecretStr("team:second-key"), SecretStr("team:third-key")])


def test_without_keys_everybody_is_nobody() -> None:
    """A server without keys has one owner, whatever the header says."""
    keys = ApiKeys([])
    assert not keys
    assert {keys.owner_of(header) for header in (None, "", "Bearer anything", "Basic x")} == {""}


def test_keys_of_one_name_are_one_owner() -> None:
    """Two keys of a name share an owner; a bare key is an owner of its own, whose name does not tell it."""
    assert KEYS.owner_of("Bearer second-key") == KEYS.owner_of("Bearer third-key") == "team"
    assert KEYS.owner_of("Bearer first-key") not in {"", "team", "first-key"}


@pytest.mark.parametrize("header", ["Bearer first-key", "bearer first-key", "first-key", "Bearer  first-key "])
def test_a_key_is_known_however_it_is_written(header: str) -> None:
    """The scheme is read as HTTP has it, in any case; clients that send the bare key are understood."""
    assert KEYS.owner_of(header)


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic first-key", "Bearer team:second-key", "Bearer x"]
)
def test_anything_else_is_refused(header: str | None) -> None:
    """What is no key of ours is refused, and not repeated."""
    with pytest.raises(Unauthorized) as caught:
        KEYS.owner_of(header)
    assert "second-key" not in str(caught.value.to_dict())
